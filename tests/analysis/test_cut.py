"""Cuts against the definition: the best approximation of its rank, in PEFT's format, with the scaling kept."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lora_sweep.adapters import AdaptedModel, AdapterFile, read_adapter, save_adapter
from lora_sweep.analysis.cut import (
    budget_ranks,
    cut,
    decompose,
    energy_kept,
    global_energy_ranks,
    layer_energy_ranks,
    lora_layers,
    uniform_ranks,
    without,
)
from lora_sweep.config import ModelConfig
from lora_sweep.errors import InputError
from lora_sweep.models import PEFT_TASK, load_base
from lora_sweep.records import AdapterSpec

IDS = torch.tensor([[3, 7, 9, 11, 12, 8], [5, 6, 10, 14, 2, 2]])
SIZES = {"a": (7, 9), "b": (12, 5), "c": (3, 3)}


def adapter(ranks: dict[str, int], seed: int = 0, **spec: Any) -> AdapterFile:
    generator = torch.Generator().manual_seed(seed)
    tensors = {"head.weight": torch.ones(2, 3)}
    for name, rank in ranks.items():
        size_out, size_in = SIZES[name]
        tensors[f"{name}.lora_A.weight"] = torch.randn(rank, size_in, generator=generator)
        tensors[f"{name}.lora_B.weight"] = torch.randn(size_out, rank, generator=generator)
    most = max(ranks.values())
    pattern = {name: rank for name, rank in ranks.items() if rank != most}
    return AdapterFile(
        AdapterSpec(rank=most, target_modules=tuple(ranks), rank_pattern=pattern, **spec), tensors, ("head",), "base"
    )


def update(file: AdapterFile, name: str) -> Tensor:
    a, b = (file.tensors[f"{name}.lora_{part}.weight"].double() for part in "AB")
    return file.spec.scaling_of(name) * (b @ a)


@settings(max_examples=40, deadline=None)
@given(rank=st.integers(1, 10), k=st.integers(1, 10), alpha=st.floats(0.5, 64), seed=st.integers(0, 99))
def test_the_error_is_the_tail_of_the_singular_values(rank: int, k: int, alpha: float, seed: int) -> None:
    whole = adapter({"a": rank}, seed, alpha=alpha)
    svds = decompose(whole)
    smaller = cut(whole, svds, uniform_ranks(svds, k))
    values = torch.linalg.svdvals(update(whole, "a"))
    error = torch.linalg.matrix_norm(update(whole, "a") - update(smaller, "a"))
    torch.testing.assert_close(error, values[k:].square().sum().sqrt(), rtol=1e-5, atol=1e-5 * float(values[0]))
    kept = 1 - float(values[k:].square().sum() / values.square().sum())
    assert energy_kept(svds, uniform_ranks(svds, k)) == pytest.approx(kept, abs=1e-12)


def test_alpha_goes_with_the_rank_and_the_values_are_split_evenly() -> None:
    whole = adapter({"a": 4, "b": 4}, alpha=8)
    svds = decompose(whole)
    uniform = cut(whole, svds, {"a": 2, "b": 2})
    assert (uniform.spec.rank, uniform.spec.alpha, uniform.spec.rank_pattern, uniform.spec.alpha_pattern) == (
        2, 4.0, {}, {}
    )  # fmt: skip
    for name in ("a", "b"):
        a, b = uniform.tensors[f"{name}.lora_A.weight"], uniform.tensors[f"{name}.lora_B.weight"]
        torch.testing.assert_close(a.norm(dim=1), b.norm(dim=0))
    mixed = cut(whole, svds, {"a": 3, "b": 1})
    assert mixed.spec.rank_of("a") == 3 and mixed.spec.rank_of("b") == 1
    assert mixed.spec.scaling_of("a") == pytest.approx(2) and mixed.spec.scaling_of("b") == pytest.approx(2)
    assert set(mixed.spec.alpha_pattern) == set(mixed.spec.rank_pattern)


def test_layers_with_ranks_and_scalings_of_their_own() -> None:
    whole = adapter({"a": 6, "b": 4, "c": 2}, alpha=12, alpha_pattern={"b": 1.0})
    svds = decompose(whole)
    smaller = cut(whole, svds, uniform_ranks(svds, 4))
    assert {name: smaller.spec.rank_of(name) for name in SIZES} == {"a": 4, "b": 4, "c": 2}
    for name in ("b", "c"):  # not cut: the same update in other factors
        torch.testing.assert_close(update(smaller, name), update(whole, name), rtol=1e-5, atol=1e-5)


def test_a_layer_cut_to_rank_0_is_left_out() -> None:
    whole = adapter({"a": 4, "b": 4}, alpha=8)
    smaller = cut(whole, decompose(whole), {"a": 0, "b": 3})
    assert smaller.spec.target_modules == ("b",) and lora_layers(smaller) == ["b"]
    nothing = cut(whole, decompose(whole), {"a": 0, "b": 0})
    assert nothing.spec.target_modules == () and set(nothing.tensors) == {"head.weight"}


def test_a_cut_keeps_the_biases() -> None:
    whole = adapter({"a": 4, "b": 4}, alpha=8, bias="lora_only")
    biases = {f"{name}.base_layer.bias": torch.randn(SIZES[name][0]) for name in ("a", "b")}
    whole = AdapterFile(whole.spec, {**whole.tensors, **biases}, whole.trained, whole.base_name)
    smaller = cut(whole, decompose(whole), {"a": 0, "b": 3})
    assert smaller.spec.bias == "lora_only" and lora_layers(smaller) == ["a", "b"]
    assert all(torch.equal(smaller.tensors[name], bias) for name, bias in biases.items())
    # PEFT has no bias without a pair of matrices
    assert smaller.spec.rank_of("a") == 1 and not update(smaller, "a").any()
    torch.testing.assert_close(update(smaller, "b"), update(cut(whole, decompose(whole), {"a": 4, "b": 3}), "b"))
    rest = without(whole, ["a"])
    assert "a.base_layer.bias" not in rest.tensors and "b.base_layer.bias" in rest.tensors


def test_energy_cuts_keep_the_share_with_the_fewest_values() -> None:
    whole = adapter({"a": 6, "b": 4, "c": 3}, alpha=12, alpha_pattern={"b": 1.0})
    svds = decompose(whole)
    energies = {name: (svd.scaling * svd.values).square() for name, svd in svds.items()}
    everything = torch.cat(list(energies.values())).sort(descending=True).values
    for share in (0.01, 0.3, 0.5, 0.9, 0.999, 1.0):
        for name, rank in layer_energy_ranks(svds, share).items():
            own, total = energies[name], float(energies[name].sum())
            assert float(own[:rank].sum()) >= share * total * (1 - 1e-9)
            assert float(own[: rank - 1].sum()) < share * total
        ranks = global_energy_ranks(svds, share)
        assert energy_kept(svds, ranks) >= share - 1e-9
        fewer = float(everything[: sum(ranks.values()) - 1].sum() / everything.sum())
        assert fewer < share
    assert global_energy_ranks(svds, 1.0) == {name: len(svd.values) for name, svd in svds.items()}


def test_an_update_of_zero_has_no_rank() -> None:
    whole = adapter({"a": 2, "b": 2})
    zero = AdapterFile(whole.spec, {k: v * ("lora_B" not in k) for k, v in whole.tensors.items()}, (), "base")
    svds = decompose(zero)
    assert global_energy_ranks(svds, 0.9) == layer_energy_ranks(svds, 0.9) == {"a": 0, "b": 0}
    assert energy_kept(svds, {"a": 0, "b": 0}) == 1.0


@pytest.mark.parametrize(
    ("ranks", "message"),
    [
        ({"a": 1}, "ranks: must name exactly the adapter's layers, got 'b'"),
        ({"a": 1, "b": 5}, "ranks: b: must be from 0 to 4, got 5"),
        ({"a": -1, "b": 1}, "ranks: a: must be from 0 to 4, got -1"),
    ],
)
def test_odd_ranks_are_refused(ranks: dict[str, int], message: str) -> None:
    whole = adapter({"a": 4, "b": 4})
    with pytest.raises(InputError) as error:
        cut(whole, decompose(whole), ranks)
    assert str(error.value) == message


def test_an_odd_share_is_refused() -> None:
    with pytest.raises(InputError, match="energy share: must be above 0 and at most 1, got 90"):
        global_energy_ranks(decompose(adapter({"a": 4})), 90)


def test_without_leaves_the_rest_as_it_was() -> None:
    whole = adapter({"a": 6, "b": 4}, alpha_pattern={"b": 3.0})
    rest = without(whole, ["a"])
    assert set(rest.tensors) == {"head.weight", "b.lora_A.weight", "b.lora_B.weight"}
    assert torch.equal(update(rest, "b"), update(whole, "b"))
    assert without(whole, ["b"]).spec.rank_pattern == without(whole, ["b"]).spec.alpha_pattern == {}


# On a model ----------------------------------------------------------------------------------------------------


def trained(adapted: AdaptedModel, folder: Path, spec: AdapterSpec) -> AdapterFile:
    """A random adapter, as a file."""
    weights = adapted.add(0, spec, seed=0)
    with torch.no_grad():
        for name, parameter in sorted(weights.named.items()):
            parameter.normal_(std=0.2, generator=torch.Generator().manual_seed(len(name)))
    weights.refresh()
    save_adapter(adapted, 0, folder, "base", None)
    adapted.remove(0)
    return read_adapter(folder)


def logits(adapted: AdaptedModel, file: AdapterFile) -> Tensor:
    adapted.load(0, file.spec, file.tensors)
    with torch.no_grad(), adapted.routing.whole(0):
        found: Tensor = adapted.model(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits
    adapted.remove(0)
    return found


@pytest.mark.parametrize(
    ("fixture", "task", "spec"),
    [
        ("bert_dir", "classification", AdapterSpec(rank=6, alpha=12, target_modules="attention")),
        ("llama_dir", "causal-lm", AdapterSpec(rank=6, alpha=3, target_modules="all-linear")),
        ("gpt2_dir", "causal-lm", AdapterSpec(rank=5, alpha=5, target_modules=("c_attn", "mlp.c_proj"))),
        ("bert_dir", "classification", AdapterSpec(rank=6, target_modules="attention-mlp", bias="lora_only")),
    ],
)
def test_a_cut_loads_in_peft_with_the_same_logits(
    fixture: str, task: Any, spec: AdapterSpec, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    import peft
    import transformers

    folder = request.getfixturevalue(fixture)
    base = load_base(ModelConfig(name=str(folder), dtype="float32"), task, ("no", "yes") if task != "causal-lm" else ())
    adapted = AdaptedModel(base.model, base.trained, base.new, base.called)
    whole = trained(adapted, tmp_path / "whole", spec)
    svds = decompose(whole)
    same = cut(whole, svds, uniform_ranks(svds, spec.rank))
    torch.testing.assert_close(logits(adapted, same), logits(adapted, whole), rtol=1e-4, atol=1e-5)

    ranks = {name: number % 4 for number, name in enumerate(svds)}  # 0 to 3: some layers are left out
    smaller = cut(whole, svds, ranks)
    expected = logits(adapted, smaller)
    assert not torch.allclose(expected, logits(adapted, whole), atol=1e-3)
    adapted.load(0, smaller.spec, smaller.tensors)
    save_adapter(adapted, 0, tmp_path / "cut", str(folder), PEFT_TASK[task])
    assert {name: read_adapter(tmp_path / "cut").spec.rank_of(name) for name in ranks if ranks[name]} == {
        name: rank for name, rank in ranks.items() if rank
    }
    if task == "classification":
        plain = transformers.AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2)
    else:
        plain = transformers.AutoModelForCausalLM.from_pretrained(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = peft.PeftModel.from_pretrained(plain, tmp_path / "cut").eval()
    with torch.no_grad():
        found = theirs(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_budget_buys_the_largest_values_of_all_layers() -> None:
    svds = decompose(adapter({"a": 7, "b": 5, "c": 3}, alpha=5.0))
    costs = {name: sum(SIZES[name]) for name in svds}
    whole = sum(len(svd.values) * costs[name] for name, svd in svds.items())
    for budget in range(0, whole + 20, 13):
        ranks = budget_ranks(svds, budget)
        spent = sum(rank * costs[name] for name, rank in ranks.items())
        assert spent <= budget
        left_out = [svd.scaling * float(svd.values[ranks[n]]) for n, svd in svds.items() if ranks[n] < len(svd.values)]
        kept = [svd.scaling * float(svd.values[ranks[n] - 1]) for n, svd in svds.items() if ranks[n]]
        # nothing larger is left out than what is kept, unless it would no longer have fitted
        assert not left_out or not kept or max(left_out) <= min(kept) or budget - spent < max(costs.values())
    assert budget_ranks(svds, whole) == {name: len(svd.values) for name, svd in svds.items()}
