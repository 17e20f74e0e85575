"""A trial without Ray: a tenant that plays the engine."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import pytest

from lora_sweep.engine.api import Interval
from lora_sweep.errors import TrialFailure
from lora_sweep.records import Cost, EvalPoint, TrialConfig, TrialRecord
from lora_sweep.sweep import trial as module

CONFIG = TrialConfig(steps=12, eval_every=4)


class Tenant:
    def __init__(self, *_):
        self.state = None

    def run(self, want_state):
        if self.state is not None:
            raise TrialFailure("the loss is NaN")
        self.state = SimpleNamespace(step=4)
        point = EvalPoint(step=4, metrics={"accuracy": 0.5}, device_seconds=3.0)
        record = TrialRecord(
            trial_id="a", status="stopped", config=CONFIG, metrics=point.metrics, step=4, history=(point,),
            cost=Cost(device_seconds=3.0),
        )  # fmt: skip
        return Interval(record=record, done=False, state=self.state)

    def release(self):
        pass


@pytest.fixture
def make_trial(monkeypatch):
    monkeypatch.setattr(module, "Tenant", Tenant)

    def make():
        trial = object.__new__(module.SweepTrial)
        trial.setup({"trial_id": "a", "trial": CONFIG.model_dump(mode="json")}, metric="accuracy")
        return trial

    return make


def test_a_trial_that_fails_after_a_restore_keeps_its_history_and_cost(make_trial, tmp_path):
    first = make_trial()
    assert first.step()["accuracy"] == 0.5
    first.save_checkpoint(str(tmp_path))
    second = make_trial()
    second.load_checkpoint(str(tmp_path))
    result = second.step()
    record = TrialRecord.model_validate_json(result["record"])
    assert (result["status"], result["done"]) == ("failed", True)
    assert record.error == "TrialFailure: the loss is NaN"
    assert [point.step for point in record.history] == [4]
    assert record.cost.device_seconds == 3.0


def test_a_checkpoint_before_the_first_interval(make_trial, tmp_path):
    make_trial().save_checkpoint(str(tmp_path))
    trial = make_trial()
    trial.load_checkpoint(str(tmp_path))
    assert trial.step()["training_iteration"] == 1


def test_in_place_of_a_checkpoint_that_is_gone_the_newest_that_can_be_read(make_trial, tmp_path):
    first = make_trial()
    first.step()
    kept, cut_off = (tmp_path / f"checkpoint_00000{number}" for number in (3, 4))
    for folder in (kept, cut_off):
        folder.mkdir()
        first.save_checkpoint(str(folder))
    (cut_off / module.STATE_FILE).write_bytes((cut_off / module.STATE_FILE).read_bytes()[:-9])
    assert restored(make_trial(), tmp_path)._tenant.state.step == 4
    shutil.rmtree(kept)
    anew = restored(make_trial(), tmp_path)
    assert anew._tenant.state is None and anew.step()["accuracy"] == 0.5


def restored(trial, folder):
    trial._local_ip = ""  # for Tune's log
    trial.restore(str(folder / "checkpoint_000001"))
    return trial
