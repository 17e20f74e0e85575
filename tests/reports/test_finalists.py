from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reports import pick, read_results
from reports.finalists import choose_finalists

LABELS = np.arange(300) % 3


def outcomes(hits: np.ndarray) -> pd.DataFrame:
    predictions = np.where(hits, LABELS, (LABELS + 1) % 3)
    names = [f"eval:{i}" for i in range(300)]
    frame = pd.DataFrame({"example_id": names, "split": "eval", "step": 200, "label": LABELS})
    return frame.assign(prediction=predictions, logits=list(np.eye(3, dtype=np.float32)[predictions]))


@pytest.fixture
def write_run(make_run, make_record):
    """Trials as id: (share right, parameters); the answers of equal seeds are nested."""

    def write(trials, name="run", seed=0, **fields):
        luck = np.random.default_rng(seed).random(300)
        hits = {trial: luck < np.quantile(luck, share) for trial, (share, _) in trials.items()}
        records = [
            make_record(trial, float(hits[trial].mean()), parameters=size, learning_rate=1e-3 + i * 1e-5)
            for i, (trial, (_, size)) in enumerate(trials.items())
        ]
        run = make_run([record.model_copy(update=fields.get(record.trial_id, {})) for record in records], name=name)
        for trial, hit in hits.items():
            run.write_outcomes(trial, outcomes(hit))
        return run

    return write


def test_the_pick_then_the_best_then_the_front_then_the_next_best(write_run) -> None:
    trials = {
        "best": (0.80, 90), "cheap": (0.79, 10), "middle": (0.795, 50), "beaten": (0.79, 60), "far": (0.5, 1)
    }  # fmt: skip
    run = write_run(trials)
    assert read_results(run).tied == {"best", "cheap", "middle", "beaten"}
    assert choose_finalists(run, 1) == ["cheap"]
    assert choose_finalists(run, 2) == ["best", "cheap"]
    assert choose_finalists(run, 3) == ["best", "middle", "cheap"]
    assert set(choose_finalists(run, 4)) == {"best", "middle", "cheap", "beaten"}
    assert choose_finalists(run, 9)[-1] == "far"


def test_stopped_trials_and_repeats_are_none(write_run) -> None:
    trials = {"a": (0.7, 10), "again": (0.9, 10), "stopped": (0.9, 10)}
    run = write_run(trials, again={"repeat_of": "a"}, stopped={"status": "stopped"})
    assert choose_finalists(run, 3) == ["a"]
    assert choose_finalists(write_run({"s": (0.9, 1)}, "other", s={"status": "stopped"}), 3) == []


def test_without_outcomes_the_best_figures(make_run, make_record) -> None:
    records = [make_record(n, q, parameters=p) for n, q, p in (("a", 0.5, 1), ("b", 0.9, 20), ("c", 0.9, 10))]
    records.append(make_record("unknown", None))
    run = make_run([record.model_copy(update={"config": _rate(record, i)}) for i, record in enumerate(records)])
    assert choose_finalists(run, 2) == ["c", "b"]


def test_a_configuration_has_one_place(make_run, make_record) -> None:
    records = [make_record(name, value, seed=i) for i, (name, value) in enumerate((("a", 0.9), ("b", 0.8)))]
    records.append(make_record("c", 0.7, rank=4))
    assert choose_finalists(make_run(records), 2) == ["a", "c"]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    trials=st.lists(st.tuples(st.floats(0.6, 0.9), st.integers(1, 5)), min_size=1, max_size=7),
    top=st.integers(1, 4),
    seed=st.integers(0, 10**6),
)
def test_the_pick_is_a_finalist(write_run, tmp_path_factory, trials, top, seed) -> None:
    name = tmp_path_factory.mktemp("runs").name
    results = read_results(write_run({f"t{i}": one for i, one in enumerate(trials)}, f"{name}/run", seed))
    chosen = choose_finalists(results, top)
    assert pick(results).trial_id in chosen
    assert len(chosen) == len(set(chosen)) == min(top, len(trials))
    if top > 1:
        assert results.ranked()["trial_id"].iloc[0] in chosen


def _rate(record, i):
    return record.config.model_copy(update={"learning_rate": 1e-3 + i * 1e-5})
