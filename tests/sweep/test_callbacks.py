from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from lora_sweep.records import EvalPoint, TrialConfig, TrialRecord
from lora_sweep.store import RunFolder
from lora_sweep.sweep.callbacks import RecordKeeper


def record_json(**changes):
    point = EvalPoint(step=4, metrics={"loss": 0.5})
    record = TrialRecord(trial_id="a", status="complete", config=TrialConfig(), metrics=point.metrics, history=(point,))
    return json.dumps(json.loads(record.model_dump_json()) | changes)


@pytest.fixture
def run(tmp_path):
    return RunFolder.create(tmp_path / "run")


@pytest.fixture
def keeper(run, diary):
    broker = SimpleNamespace(release=SimpleNamespace(remote=lambda *_: None))
    return RecordKeeper(run, SimpleNamespace(broker=broker), diary)


@pytest.fixture
def trial(tmp_path):
    config = {"trial_id": "a", "trial": TrialConfig().model_dump(mode="json")}
    failure = ValueError("boom")
    return SimpleNamespace(
        config=config, path=tmp_path, last_result={}, get_pickled_error=lambda: failure, get_error=lambda: failure
    )


# a NaN becomes null in JSON
@pytest.mark.parametrize("text", [record_json(metrics={"loss": None}), "no json"])
def test_a_record_that_cannot_be_read_fails_its_trial_only(run, keeper, diary, trial, text):
    trial.last_result = {"record": text}
    keeper.on_trial_result(0, [], trial, trial.last_result)
    assert not diary.reports
    keeper.on_trial_complete(0, [], trial)
    (record,) = run.records()
    assert diary.ends == [record]
    assert record.status == "failed" and record.error.startswith("its record cannot be read: ")


@pytest.mark.parametrize(("text", "points"), [(record_json(), 1), ("no json", 0), (None, 0)])
def test_a_process_that_failed(run, keeper, trial, text, points):
    trial.last_result = {} if text is None else {"record": text}
    keeper.on_trial_error(0, [], trial)
    (record,) = run.records()
    assert (record.status, record.error, len(record.history)) == ("failed", "ValueError: boom", points)
