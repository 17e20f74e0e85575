from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lora_sweep.adapters import AdapterFile, read_adapter
from lora_sweep.analysis.cut import lora_layers, without
from lora_sweep.analysis.gradients import at_start, sensitivity, squared_product
from lora_sweep.analysis.importance import measure_importance
from lora_sweep.analysis.session import AnalysisSession, open_session
from lora_sweep.tasks import HOLDOUT

PLANTED = "encoder.layer.1.output.dense"


def update(adapter: AdapterFile, layer: str) -> torch.Tensor:
    a, b = (adapter.tensors[f"{layer}.lora_{part}.weight"] for part in "AB")
    return adapter.spec.scaling_of(layer) * (b @ a)


def check_against_autograd(session: AnalysisSession, trial: str, merged_gradients: Any) -> None:
    adapter = session.adapter(trial)
    layers = lora_layers(adapter)
    start_of, effects = at_start(session, adapter), sensitivity(session, adapter)
    for layer in (layers[0], layers[-1]):
        start = merged_gradients(session, without(adapter, layers), layer)
        expected = np.mean([float(g.square().sum()) for g in start])
        assert start_of[layer].gradient_squared == pytest.approx(expected, rel=1e-3)
        assert start_of[layer].activation_squared > 0
        trained = merged_gradients(session, adapter, layer)
        expected = np.mean([float((g * update(adapter, layer)).sum()) ** 2 for g in trained]) ** 0.5
        assert effects[layer] == pytest.approx(expected, rel=1e-3)


def test_the_estimators_are_autograds_weight_gradients(make_run: Any, merged_gradients: Any) -> None:
    run = make_run({"t": {"rank": 4, "target_modules": "all-linear"}})
    check_against_autograd(open_session(run, "cpu", holdout_examples=12), "t", merged_gradients)


def test_calls_of_a_shared_layer_are_summed_up(make_run: Any, albert_dir: Path, merged_gradients: Any) -> None:
    model = {"name": str(albert_dir), "dtype": "float32"}
    run = make_run({"t": {"rank": 4, "target_modules": "all-linear"}}, model=model)
    session = open_session(run, "cpu", holdout_examples=8)
    layer = next(name for name in lora_layers(session.adapter("t")) if "ffn" in name)
    calls = []
    handle = session.engine.base.model.get_submodule(layer).register_forward_hook(lambda *_: calls.append(1))
    session.engine.score(None, HOLDOUT)
    handle.remove()
    assert len(calls) % 3 == 0 and len(calls) > 0
    check_against_autograd(session, "t", merged_gradients)


@pytest.mark.parametrize("fixture", ["llama_dir", "gpt2_dir"])
def test_language_models(
    make_run: Any, causal_raw: Any, merged_gradients: Any, fixture: str, request: pytest.FixtureRequest
) -> None:
    run = make_run({"t": {"rank": 4, "target_modules": "all-linear"}}, **causal_raw(request.getfixturevalue(fixture)))
    session = open_session(run, "cpu", holdout_examples=8)
    check_against_autograd(session, "t", merged_gradients)
    (trial,) = measure_importance(session, session.leading(1))["trials"]
    assert trial["without_update"]["loss"] > trial["whole"]["loss"]


@pytest.mark.parametrize("length", [2, 40])
def test_both_ways_to_a_squared_product(length: int) -> None:
    x, g = torch.randn(3, length, 6), torch.randn(3, length, 5)
    expected = torch.einsum("bto,bti->boi", g, x).square().sum(dim=(1, 2))
    torch.testing.assert_close(squared_product(x, g), expected)


@pytest.fixture
def planted(make_run: Any) -> AnalysisSession:
    """A trial whose update is large in one layer and faint elsewhere, on labels that follow its own answers."""
    run = make_run({"t": {"rank": 4, "target_modules": "all-linear"}})
    folder = run.adapter_dir("t")
    save_planted(folder, planted_tensors(read_adapter(folder)))
    session = open_session(run, "cpu", holdout_examples=200)
    adapter = session.adapter("t")
    margin = np.diff(answers(session, adapter), axis=1)
    bias = adapter.tensors["classifier.bias"] - torch.tensor([0.0, float(np.median(margin))])  # both classes come up
    save_planted(folder, {**adapter.tensors, "classifier.bias": bias})
    task = session.engine.task
    labels = answers(session, session.adapter("t")).argmax(axis=1)
    assert 80 < labels.sum() < 120
    splits = {**task.splits, HOLDOUT: replace(task.splits[HOLDOUT], labels=labels)}
    session.engine.task = replace(task, splits=splits)
    return session


def answers(session: AnalysisSession, adapter: AdapterFile) -> np.ndarray:
    logits = session.evaluate({"t": adapter}, HOLDOUT)["t"].scores.logits
    assert logits is not None
    return logits


def planted_tensors(file: AdapterFile) -> dict[str, torch.Tensor]:
    tensors = dict(file.tensors)
    for seed, name in enumerate(sorted(name for name in tensors if ".lora_" in name)):
        size = 0.5 if PLANTED in name and "attention" not in name else 0.02
        tensors[name] = size * torch.randn(tensors[name].shape, generator=torch.Generator().manual_seed(seed))
    return tensors


def save_planted(folder: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    named = {f"base_model.model.{name}": tensor.contiguous() for name, tensor in tensors.items()}
    save_file(named, folder / "adapter_model.safetensors")


def test_the_layer_whose_update_matters_comes_first(planted: AnalysisSession) -> None:
    (trial,) = measure_importance(planted, planted.leading(1))["trials"]
    assert trial["whole"]["accuracy"] == 1 and trial["without_update"]["accuracy"] < 1
    for measure in ("sensitivity", "energy_share", "loss_lost", "quality_lost"):
        first = max(trial["layers"], key=lambda row: row[measure])
        assert PLANTED in first["name"], measure
    first = max(trial["kinds"], key=lambda row: row["loss_lost"])
    assert first == {**first, "kind": "output.dense", "layers": 2}
    assert sum(row["energy_share"] for row in trial["layers"]) == pytest.approx(1)
    assert all(row["gradient_squared"] > 0 for row in trial["layers"])


def test_only_the_training_data_decide(session: AnalysisSession) -> None:
    """Analyses of importance run with the evaluation and test data out of reach."""
    splits = {name: session.engine.task.splits[name] for name in ("train", HOLDOUT)}
    session.engine.task = replace(session.engine.task, splits=splits)
    measured = measure_importance(session, session.leading(1))
    assert measured["split"] == HOLDOUT and measured["examples"] == 64
    assert session.run.analysis("importance") == measured
