from __future__ import annotations

import math
from pathlib import Path

from lora_sweep.records import TrialConfig, TrialRecord
from lora_sweep.sweep.baselines import head_only_configs
from lora_sweep.sweep.finalists import choose_finalists
from lora_sweep.sweep_file import parse_sweep


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


def test_head_only_has_no_lora_at_three_rates(sweep_raw):
    configs = head_only_configs(parse_sweep(sweep_raw(), "sweep.yaml", Path()), 100)
    assert all(config.target_modules == () for config in configs)
    rates = [config.learning_rate for config in configs]
    assert rates == [1e-3, math.sqrt(1e-3 * 1e-2), 1e-2]
    assert len({config.fingerprint() for config in configs}) == 3
