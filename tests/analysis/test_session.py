from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lora_sweep.analysis import analyse_run
from lora_sweep.analysis.run_analysis import ANALYSES
from lora_sweep.analysis.session import AnalysisSession, open_session
from lora_sweep.errors import InputError, RunFolderError
from lora_sweep.store import RunFolder
from lora_sweep.tasks import HOLDOUT


def test_only_complete_trials_lead(session: AnalysisSession) -> None:
    assert {record.trial_id for record in session.leading(9)} == {"qv", "all"}
    first, second = session.leading(2)
    assert first.metrics["accuracy"] >= second.metrics["accuracy"]
    assert session.leading(1) == [first]


def test_adapters_evaluate_in_a_pack_as_alone(session: AnalysisSession) -> None:
    adapters = {f"{name} {i}": session.adapter(name) for i in range(2) for name in ("qv", "all", "short")}
    found = session.evaluate(adapters, "eval")
    assert list(found) == list(adapters) and not session.engine.adapted.slots
    for name in ("qv", "all"):
        record = next(r for r in session.leading(2) if r.trial_id == name)
        assert found[f"{name} 1"].metrics == pytest.approx(record.metrics, rel=1e-5)
        assert found[f"{name} 1"].parameters == record.trainable_parameters


def test_the_holdout_is_a_seeded_part_of_the_training_data(session: AnalysisSession) -> None:
    task = session.engine.task
    split, train = task.splits[HOLDOUT], task.splits["train"]
    assert len(split) == len(set(split.example_ids)) == 64
    places = {example: i for i, example in enumerate(train.example_ids)}
    where = np.array([places[example] for example in split.example_ids])
    ours, theirs = split.rows(np.arange(64), 32, 0), train.rows(where, 32, 0)
    assert np.array_equal(ours.token_ids, theirs.token_ids) and np.array_equal(ours.labels, theirs.labels)
    again = open_session(session.run, "cpu", holdout_examples=64).engine.task.splits[HOLDOUT]
    assert np.array_equal(again.example_ids, split.example_ids)


@pytest.mark.parametrize("part", ["data", "model"])
def test_changed_base_or_data_are_refused(make_run: Any, part: str) -> None:
    run = make_run({})
    info = run.info()
    place = info["model"] if part == "model" else info["data"]["parts"]["eval"]
    place["sha256"] = "0" * 64
    run.write_info(info)
    with pytest.raises(RunFolderError, match="must still have the hash 0000"):
        open_session(run, "cpu")


def test_a_file_that_changed_is_refused(make_run: Any, sweep_raw: Any, tmp_path: Path) -> None:
    task = sweep_raw()["task"]
    copy = tmp_path / "eval.csv"
    text = Path(task["data"]["eval"]).read_text()
    copy.write_text(text)
    run = make_run({}, task={**task, "data": {**task["data"], "eval": str(copy)}})
    copy.write_text(text + "good movie,positive\n")
    with pytest.raises(RunFolderError, match=r"run.json: data.eval: must still have the hash"):
        analyse_run(run, device="cpu")


def test_all_analyses_of_a_run(finished: RunFolder) -> None:
    run = finished
    told: list[str] = []
    weights = {p: p.read_bytes() for p in (run.path / "adapters").glob("*/adapter_model.safetensors")}
    assert analyse_run(run, top=2, skip=("latency",), device="cpu", told=told.append) == ANALYSES[:3]
    assert told == ["spectra", "rank curves", "importance"]
    assert run.analysis("latency") is None and all(run.analysis(name) for name in ANALYSES[:3])
    assert all(path.read_bytes() == before for path, before in weights.items())


def test_nothing_to_analyse(make_run: Any) -> None:
    run = make_run({"head": {"target_modules": ()}})
    with pytest.raises(RunFolderError, match="must hold a complete trial with LoRA layers"):
        analyse_run(run, device="cpu")
    with pytest.raises(InputError, match="--skip: must be of spectra, .*, got 'speed'"):
        analyse_run(run, skip=("speed",))


def test_the_norms_of_an_adapter_are_noted_as_it_trains(session: AnalysisSession) -> None:
    for record in session.leading(2):
        norms = [point.norms for point in record.history]
        assert None not in norms and norms[0].update < norms[-1].update
        adapter = session.adapter(record.trial_id)
        at = next(point.norms for point in record.history if point.step == record.step)
        pairs = [
            (adapter.tensors[f"{name}.lora_A.weight"], adapter.tensors[f"{name}.lora_B.weight"], name)
            for name in adapter.spec.target_modules
        ]
        updates = [adapter.spec.scaling_of(name) * (b @ a) for a, b, name in pairs]
        for found, expected in ((at.a, [p[0] for p in pairs]), (at.b, [p[1] for p in pairs]), (at.update, updates)):
            total = torch.cat([tensor.flatten() for tensor in expected]).norm()
            assert found == pytest.approx(float(total), rel=1e-4)


def test_a_head_alone_has_no_norms(make_run: Any) -> None:
    (record,) = make_run({"head": {"target_modules": ()}}).records()
    assert [point.norms for point in record.history] == [None, None]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_dtype_is_the_sweeps_own(make_run: Any, dtype: str) -> None:
    run = make_run({})
    run.sweep_file.write_text(run.sweep_file.read_text().replace("dtype: float32", "dtype: auto"))
    assert "dtype: auto" in run.sweep_file.read_text()
    run.write_info(run.info() | {"devices": [{"device": "another", "dtype": dtype}]})
    assert open_session(run, "cpu").facts()["dtype"] == dtype


def test_a_device_that_cannot_do_the_dtype_is_refused(make_run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run({})
    run.sweep_file.write_text(run.sweep_file.read_text().replace("dtype: float32", "dtype: auto"))
    run.write_info(run.info() | {"devices": [{"dtype": "bfloat16"}]})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    with pytest.raises(InputError, match="must compute in the sweep's dtype, bfloat16"):
        open_session(run, "cuda")


def test_a_slot_is_free_again_when_it_cannot_be_opened(
    session: AnalysisSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise MemoryError("injected")

    monkeypatch.setattr("lora_sweep.analysis.session.Slot", fails)
    with pytest.raises(MemoryError), session.loaded([session.adapter("qv")]):
        pass
    assert not session.engine.adapted.slots


def test_a_run_with_a_holdout_of_its_own_is_analysed_on_it(make_run: Any, sweep_raw: Any) -> None:
    task = sweep_raw()["task"]
    run = make_run({}, task={**task, "data": {**task["data"], "holdout": 0.1}})
    session = open_session(run, "cpu", holdout_examples=64)
    splits = session.engine.task.splits
    assert (len(splits["train"]), len(splits[HOLDOUT])) == (216, 24)
    assert not set(splits["train"].example_ids) & set(splits[HOLDOUT].example_ids)
    assert session.holdout_note == "No trial trained on these examples."
    assert run.info()["data"]["parts"][HOLDOUT] == {"examples": 24}


def test_a_run_made_before_there_were_holdouts(finished: RunFolder) -> None:
    lines = finished.sweep_file.read_text().splitlines(keepends=True)
    finished.sweep_file.write_text("".join(line for line in lines if "holdout" not in line))
    session = open_session(finished, "cpu", holdout_examples=64)
    splits = session.engine.task.splits
    assert (len(splits["train"]), len(splits[HOLDOUT])) == (240, 64)
    assert session.holdout_note.startswith("The trials trained on these examples")
