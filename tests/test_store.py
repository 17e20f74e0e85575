from __future__ import annotations

import json

import pandas as pd
import pytest

from lora_sweep.errors import RunFolderError
from lora_sweep.records import EvalPoint, TrialConfig, TrialRecord
from lora_sweep.store import RunFolder


@pytest.fixture
def run(tmp_path):
    return RunFolder.create(tmp_path / "runs" / "one")


def record(trial_id="000-abc", status="complete", **more):
    return TrialRecord(trial_id=trial_id, status=status, config=TrialConfig(target_modules=("q", "v")), **more)


def outcomes(split, values, step=1):
    ids = [f"{split}:{number}" for number in range(len(values))]
    return pd.DataFrame({"example_id": ids, "split": split, "step": step, "label": values})


def test_a_new_folder_is_not_yet_a_run(run):
    with pytest.raises(RunFolderError) as error:
        RunFolder.open(run.path)
    assert str(error.value) == (
        f"{run.path}: must be a run folder (with a run.json inside). `lora-sweep run` makes one and prints its path."
    )
    run.write_info({"status": "running"})
    assert RunFolder.open(run.path).info() == {"status": "running"}


def test_what_stands_there_is_left_alone(run):
    with pytest.raises(RunFolderError) as error:
        RunFolder.create(run.path)
    assert str(error.value) == (
        f"{run.path}: the run folder must not exist yet. "
        "Choose another --output or --name, go on with `lora-sweep resume`, or remove it."
    )


def test_where_no_folder_can_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError) as error:
        RunFolder.create(tmp_path / "file" / "run")
    assert str(error.value) == (
        f"{tmp_path}/file/run: must be where a folder can be made (Not a directory). Choose another place."
    )


def test_records_come_back_equal(run):
    first = record(metrics={"loss": 0.25}, history=(EvalPoint(step=3, metrics={"loss": 0.25}),))
    second = record("001-def", "failed", error='"quoted"\nand a second line, with ü and \u2028')
    for one in (first, second):
        run.append_record(one)
    assert run.records() == [first, second]
    assert len((run.path / "trials.jsonl").read_text(encoding="utf-8").split("\n")) == 3


def test_no_records_at_first(run):
    assert run.records() == []


def test_the_later_of_two_records_counts(run):
    for one in (record(status="failed"), record("001-def"), record()):
        run.append_record(one)
    assert [(one.trial_id, one.status) for one in run.records()] == [("001-def", "complete"), ("000-abc", "complete")]


def test_a_line_cut_off_by_a_crash_is_left_out(run):
    run.append_record(record())
    with (run.path / "trials.jsonl").open("a") as file:
        file.write('{"trial_id": "001-d')
    assert [one.trial_id for one in run.records()] == ["000-abc"]


def test_a_record_after_a_line_cut_off_by_a_crash_is_not_lost(run):
    run.append_record(record())
    with (run.path / "trials.jsonl").open("a") as file:
        file.write('{"trial_id": "001-d')
    run.append_record(record("002-ghi"))
    assert [one.trial_id for one in run.records()] == ["000-abc", "002-ghi"]


def test_a_broken_line_is_named(run):
    run.append_record(record())
    with (run.path / "trials.jsonl").open("a") as file:
        file.write("nonsense\n")
    run.append_record(record())
    with pytest.raises(RunFolderError) as error:
        run.records()
    assert str(error.value).startswith(f"{run.path}/trials.jsonl: line 2: must be a trial record, got 'nonsense'. ")


@pytest.mark.parametrize(("text", "rule"), [("{", "must be JSON ("), ("[]", "must hold a JSON object")])
def test_a_broken_run_json_is_named(run, text, rule):
    (run.path / "run.json").write_text(text)
    with pytest.raises(RunFolderError) as error:
        run.info()
    assert str(error.value).startswith(f"{run.path}/run.json: {rule}")


def test_outcomes_of_one_split_replace_only_that_split(run):
    assert run.outcomes("t") is None
    run.write_outcomes("t", outcomes("eval", [1, 0, 1]))
    run.write_outcomes("t", outcomes("test", [0, 0]))
    run.write_outcomes("t", outcomes("eval", [0, 0, 1], step=2))
    found = run.outcomes("t")
    assert found is not None
    assert list(found[found["split"] == "eval"]["label"]) == [0, 0, 1]
    assert list(found[found["split"] == "eval"]["step"]) == [2, 2, 2]
    assert list(found[found["split"] == "test"]["example_id"]) == ["test:0", "test:1"]
    assert not list(run.path.rglob("*.part"))


def test_analyses(run):
    assert run.analysis("cuts") is None
    run.write_analysis("cuts", {"b": 1, "a": [1, 2]})
    assert run.analysis("cuts") == {"a": [1, 2], "b": 1}
    assert json.loads((run.path / "analysis" / "cuts.json").read_text()) == {"a": [1, 2], "b": 1}
