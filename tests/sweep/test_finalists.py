from __future__ import annotations

import math
from pathlib import Path

import pytest

from lora_sweep.records import TrialRecord
from lora_sweep.store import RunFolder
from lora_sweep.sweep.baselines import head_only_configs
from lora_sweep.sweep.candidates import list_candidates
from lora_sweep.sweep.finalists import finalists, list_repeats
from lora_sweep.sweep_file import parse_sweep


def complete(candidate, quality) -> TrialRecord:
    return TrialRecord(
        trial_id=candidate.trial_id, status="complete", config=candidate.config, metrics={"accuracy": quality}
    )


@pytest.mark.parametrize("searched", [1, 3])
def test_repeats_have_seeds_that_the_search_had_not(sweep_raw, searched):
    search = {"trials": 2, "repeats": searched}
    config = parse_sweep(sweep_raw(search=search, finalists={"seeds": 2}), "sweep.yaml", Path())
    candidates = list_candidates(config, 100)
    # whichever of a configuration's seeds is the finalist
    records = [complete(candidates[searched - 1], 0.9), complete(candidates[-1], 0.8)]
    repeats = list_repeats(config, records)
    first = searched + 1
    assert [repeat.trial_id for repeat in repeats] == [
        f"{record.trial_id}-seed{number}" for number in (first, first + 1) for record in records
    ]
    assert all(repeat.to_tune()["repeat_of"] == repeat.repeat_of for repeat in repeats)
    by_id = {record.trial_id: record.config for record in records}
    same = {"seed": 0}
    for repeat in repeats:
        assert repeat.config.model_copy(update=same) == by_id[repeat.repeat_of].model_copy(update=same)
    seeds = [one.config.seed for one in (*candidates, *repeats)]
    assert len(set(seeds)) == len(seeds) == 2 * searched + 4


def test_finalists_are_chosen_once(sweep_raw, tmp_path):
    config = parse_sweep(sweep_raw(finalists={"top": 2}), "sweep.yaml", Path())
    run = RunFolder.create(tmp_path / "run")
    run.write_info({"metric": {"name": "accuracy", "mode": "max", "keep": "best"}})
    assert finalists(config, run) == []
    records = [complete(one, 0.5 + one.number / 10) for one in list_candidates(config, 100)]
    for record in records[:3]:
        run.append_record(record)
    assert finalists(config, run) == [records[2], records[1]]
    run.append_record(records[3])
    assert finalists(config, run) == [records[2], records[1]]


def test_head_only_has_no_lora_at_three_rates(sweep_raw):
    configs = head_only_configs(parse_sweep(sweep_raw(), "sweep.yaml", Path()), 100)
    assert all(config.target_modules == () for config in configs)
    rates = [config.learning_rate for config in configs]
    assert rates == [1e-3, math.sqrt(1e-3 * 1e-2), 1e-2]
    assert len({config.fingerprint() for config in configs}) == 3
