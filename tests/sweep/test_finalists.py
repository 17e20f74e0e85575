from __future__ import annotations

import math
from pathlib import Path

from lora_sweep.records import TrialConfig, TrialRecord
from lora_sweep.store import RunFolder
from lora_sweep.sweep.baselines import head_only_configs
from lora_sweep.sweep.finalists import choose_finalists
from lora_sweep.sweep_file import parse_sweep
from reports import pick


def trial(name, accuracy, parameters=10, status="complete"):
    return TrialRecord(
        trial_id=name,
        status=status,
        config=TrialConfig(),
        metrics={"accuracy": accuracy},
        trainable_parameters=parameters,
    )


def test_finalists_are_the_best_complete_trials_and_the_smaller_of_equals():
    records = [trial("a", 0.5), trial("b", 0.9, 20), trial("c", 0.9, 10), trial("d", 0.99, status="stopped")]
    assert [record.trial_id for record in choose_finalists(records, "accuracy", "max", 2)] == ["c", "b"]
    assert [record.trial_id for record in choose_finalists(records, "accuracy", "min", 1)] == ["a"]


def test_the_pick_is_among_the_finalists_when_all_are_equal(tmp_path):
    run = RunFolder.create(tmp_path / "run")
    run.write_info({"metric": {"name": "accuracy", "mode": "max", "keep": "best"}})
    for name in ("003", "002", "001", "000"):
        run.append_record(trial(name, 0.9))
    finalists = [record.trial_id for record in choose_finalists(run.records(), "accuracy", "max", 3)]
    assert finalists == ["000", "001", "002"]
    assert pick(run).trial_id == finalists[0]


def test_a_value_that_is_no_number_is_no_finalist():
    records = [trial("a", math.nan), trial("b", 0.1)]
    assert [record.trial_id for record in choose_finalists(records, "accuracy", "max", 2)] == ["b"]


def test_head_only_has_no_lora_at_three_rates(sweep_raw):
    configs = head_only_configs(parse_sweep(sweep_raw(), "sweep.yaml", Path()), 100)
    assert all(config.target_modules == () for config in configs)
    rates = [config.learning_rate for config in configs]
    assert rates == [1e-3, math.sqrt(1e-3 * 1e-2), 1e-2]
    assert len({config.fingerprint() for config in configs}) == 3
