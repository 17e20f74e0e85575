from __future__ import annotations

from types import SimpleNamespace

import pytest
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from lora_sweep.errors import TrialFailure
from lora_sweep.records import EvalPoint, TrialConfig, TrialRecord
from lora_sweep.sweep.objective import finite_objective, values_over_time
from lora_sweep.sweep.schedule import ReplayingAsha, build_scheduler


def record(values, trial_id="x"):
    history = tuple(EvalPoint(step=10 * (i + 1), metrics={"loss": value}) for i, value in enumerate(values))
    return TrialRecord(
        trial_id=trial_id, status="stopped", config=TrialConfig(), metrics={"loss": values[-1]}, history=history
    )


def make_asha():
    return ReplayingAsha(keep="last", metric="loss", mode="min", max_t=9, grace_period=1, reduction_factor=3)


def trial(name, values=()):
    last = {"record": record(values, name).model_dump_json()} if values else {}
    return SimpleNamespace(trial_id=name, last_result=last)


def test_rungs_come_back_with_restored_trials():
    scheduler = make_asha()
    for name, loss in (("a", 0.1), ("b", 0.2), ("c", 0.3)):
        scheduler.on_trial_add(None, trial(name, [loss, loss]))
    scheduler.on_trial_add(None, trial("new"))
    answer = scheduler.on_trial_result(None, trial("new"), {"training_iteration": 1, "loss": 0.9})
    assert answer == TrialScheduler.STOP


def test_a_restored_record_that_cannot_be_read_is_left_out_of_the_rungs():
    scheduler = make_asha()
    broken = SimpleNamespace(trial_id="a", last_result={"record": '{"metrics": {"loss": null}}'})
    scheduler.on_trial_add(None, broken)
    scheduler.on_trial_add(None, trial("new"))
    answer = scheduler.on_trial_result(None, trial("new"), {"training_iteration": 1, "loss": 0.9})
    assert answer == TrialScheduler.CONTINUE


def test_without_restored_trials_the_first_is_never_stopped():
    scheduler = make_asha()
    scheduler.on_trial_add(None, trial("new"))
    answer = scheduler.on_trial_result(None, trial("new"), {"training_iteration": 1, "loss": 0.9})
    assert answer == TrialScheduler.CONTINUE


def test_fifo():
    config = SimpleNamespace(scheduler=SimpleNamespace(type="fifo"))
    assert isinstance(build_scheduler(config, 4), FIFOScheduler)


def test_values_over_time_follow_what_is_kept():
    history = record([0.5, 0.3, 0.4])
    assert values_over_time(history, "loss", "min", "best") == [0.5, 0.3, 0.3]
    assert values_over_time(history, "loss", "min", "last") == [0.5, 0.3, 0.4]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_objective_that_is_no_number_fails_the_trial(value):
    with pytest.raises(TrialFailure, match="loss is"):
        finite_objective(record([value]), "loss")
