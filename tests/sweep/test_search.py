from __future__ import annotations

from pathlib import Path

import pytest

from lora_sweep.records import TrialConfig
from lora_sweep.sweep.candidates import list_candidates
from lora_sweep.sweep.search import ListSearch, build_search
from lora_sweep.sweep_file import parse_sweep

SMALL = {"rank": [2, 4], "alpha": 8, "learning_rate": [1e-3, 1e-2], "batch_size": 8, "target_modules": "all-linear"}


@pytest.fixture
def config(sweep_raw):
    return lambda **changes: parse_sweep(sweep_raw(**changes), "sweep.yaml", Path())


def suggest_all(searcher, count, finish=None):
    found = []
    for number in range(count):
        suggested = searcher.suggest(f"t{number}")
        if suggested == "FINISHED":
            break
        found.append(suggested)
        if finish:
            finish(searcher, f"t{number}", suggested)
    return found


def test_random_candidates_are_seeded_and_distinct(config):
    first, second = (list_candidates(config(search={"trials": 12, "seed": 5}), 100) for _ in range(2))
    other = list_candidates(config(search={"trials": 12, "seed": 6}), 100)
    assert first == second != other
    assert len({candidate.config.fingerprint() for candidate in first}) == 12
    assert [candidate.trial_id[:3] for candidate in first[:2]] == ["000", "001"]


def test_a_space_smaller_than_the_trials_is_noted(config):
    search = build_search(config(space=SMALL, search={"trials": 16}), 100)
    assert search.trials == 4
    assert search.notes == ("The space has only 4 different configurations: 4 trials instead of 16.",)


def test_a_grid_is_complete(config):
    search = build_search(config(space=SMALL, search={"algorithm": "grid"}), 100)
    found = suggest_all(search.searcher, 10)
    assert len(found) == 4
    ranks = {TrialConfig.model_validate(item["trial"]).rank for item in found}
    assert ranks == {2, 4}


@pytest.mark.parametrize("algorithm", ["random", "grid", "tpe"])
def test_every_configuration_has_its_repeats_in_a_row(config, algorithm):
    search = build_search(config(space=SMALL, search={"algorithm": algorithm, "trials": 3, "repeats": 3}), 100)
    configurations = 4 if algorithm == "grid" else 3
    found = suggest_all(search.searcher, search.trials, learn)
    assert len(found) == search.trials == 3 * configurations
    trials = [TrialConfig.model_validate(item["trial"]) for item in found]
    same = [trial.model_copy(update={"seed": 0}) for trial in trials]
    assert all(same[i] == same[i - i % 3] for i in range(len(same)))
    assert len({trial.fingerprint() for trial in same}) == configurations
    assert len({trial.seed for trial in trials}) == len({item["trial_id"] for item in found}) == search.trials
    once = build_search(config(space=SMALL, search={"algorithm": algorithm, "trials": 3}), 100)
    if algorithm != "tpe":
        assert trials[::3] == [
            TrialConfig.model_validate(item["trial"]) for item in suggest_all(once.searcher, configurations)
        ]


def test_notes_of_repeats_and_of_a_seed_in_the_space(config):
    search = build_search(config(space=SMALL, search={"trials": 16, "repeats": 2}), 100)
    assert search.notes == ("The space has only 4 different configurations: 4 times 2 trials instead of 16.",)
    raw = {"space": SMALL | {"seed": 3}, "search": {"trials": 4}, "finalists": {"top": 2}}
    assert build_search(config(**raw), 100).notes == (
        "The space sets the seed, so no finalist is trained again with another one.",
    )


def test_tpe_hears_of_every_repeat(config):
    searcher = build_search(config(search={"algorithm": "tpe", "trials": 4, "repeats": 2}), 100).searcher
    suggest_all(searcher, 5)
    for i, value in enumerate((0.5, 0.7, 0.6)):
        searcher.on_trial_complete(f"t{i}", {"accuracy": value, "training_iteration": 1, "status": "complete"})
    trials = searcher._inner._ot_study.trials
    assert [trial.value for trial in trials] == [0.5, 0.7, 0.6, None, None]
    assert trials[0].params == trials[1].params != trials[2].params == trials[3].params


def test_evaluations_count_the_longest_trial(config):
    space = SMALL | {"batch_size": [4, 16]}
    search = build_search(config(space=space, budget={"epochs": 1, "eval_every": 0.25}), 100)
    assert search.evaluations >= 4


def test_a_list_goes_on_where_it_was_saved(config, tmp_path):
    searcher = ListSearch(list_candidates(config(), 100))
    first = suggest_all(searcher, 2)
    searcher.save(str(tmp_path / "state"))
    restored = ListSearch([])
    restored.restore(str(tmp_path / "state"))
    rest = suggest_all(restored, 10)
    assert len(first) + len(rest) == 4
    assert not {item["trial_id"] for item in first} & {item["trial_id"] for item in rest}


def learn(searcher, trial_id, suggested):
    """An objective that wants a high learning rate."""
    value = suggested["trial"]["learning_rate"]
    result = {"accuracy": value, "training_iteration": 1, "status": "complete"}
    searcher.on_trial_complete(trial_id, result)


def test_tpe_exhausts_a_small_space_without_repeating(config):
    search = build_search(config(space=SMALL, search={"algorithm": "tpe", "trials": 9}), 100)
    found = suggest_all(search.searcher, 4, learn)
    assert len({item["trial_id"][4:] for item in found}) == 4
    assert search.trials == 4


def test_tpe_learns(config):
    searcher = build_search(config(search={"algorithm": "tpe", "trials": 30, "seed": 1}), 100).searcher
    rates = [item["trial"]["learning_rate"] for item in suggest_all(searcher, 30, learn)]
    assert sum(rates[20:]) / 10 > sum(rates[:7]) / 7


def test_tpe_hears_of_stopped_and_failed_trials_as_pruned(config):
    searcher = build_search(config(search={"algorithm": "tpe", "trials": 9}), 100).searcher
    suggest_all(searcher, 4)
    searcher.on_trial_result("t0", {"accuracy": 0.5, "training_iteration": 1})
    searcher.on_trial_complete("t0", {"accuracy": 0.6, "training_iteration": 2, "status": "stopped"})
    searcher.on_trial_complete("t1", {"status": "failed"})
    searcher.on_trial_complete("t2", None, error=True)
    searcher.on_trial_complete("t3", {"accuracy": 0.9, "training_iteration": 3, "status": "complete"})
    trials = searcher._inner._ot_study.trials
    assert [trial.state.name for trial in trials] == ["PRUNED", "PRUNED", "FAIL", "COMPLETE"]
    assert trials[0].intermediate_values == {1: 0.5, 2: 0.6}
    assert trials[1].value is None


def test_tpe_goes_on_as_it_was_saved(config, tmp_path):
    search = {"algorithm": "tpe", "trials": 20, "repeats": 3}
    searchers = [build_search(config(search=search), 100).searcher for _ in range(2)]
    suggest_all(searchers[0], 13, learn)  # between the repeats of a configuration
    searchers[0].save(str(tmp_path / "state"))
    searchers[1].restore(str(tmp_path / "state"))
    assert suggest_all(searchers[0], 3) == suggest_all(searchers[1], 3)
