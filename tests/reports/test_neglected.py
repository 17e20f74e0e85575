"""Classes of which the pick finds hardly any example."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from reports import pick, read_results
from reports.doubts import doubts
from reports.neglected import neglected_classes


def answers(found: dict[int, tuple[int, int]], split: str) -> pd.DataFrame:
    """Of each class: how many examples it has, and of how many of them it is answered; else the next class is."""
    label = np.repeat(list(found), [total for total, _ in found.values()])
    right = np.concatenate([np.arange(total) < hits for total, hits in found.values()])
    prediction = np.where(right, label, (label + 1) % (max(found) + 1))
    names = [f"{split}:{i}" for i in range(len(label))]
    return pd.DataFrame(
        {"example_id": names, "split": split, "step": 200, "label": label, "prediction": prediction}
    ).assign(logits=list(np.eye(max(found) + 1, dtype=np.float32)[prediction]))


@pytest.fixture
def said(make_run, make_record, make_info):
    made = []

    def say(by_split, **changes) -> str:
        run = make_run(
            [make_record("a", 0.8), make_record("b", 0.6)],
            make_info(**changes),
            name=f"run-{len(by_split)}-{len(made)}",
        )
        made.append(run)
        for name in ("a", "b"):
            run.write_outcomes(name, pd.concat([answers(found, split) for split, found in by_split.items()]))
        results = read_results(run)
        return " ".join(text for text in doubts(results, pick(results)) if "hardly any example" in text)

    return say


TASK = {"type": "classification", "labels": ["anger", "joy", "fear"]}
EVAL = {0: (30, 3), 1: (40, 36), 2: (20, 18)}


def test_a_class_that_is_not_found_is_told_with_its_figures(said) -> None:
    assert said({"eval": EVAL}, task=TASK) == (
        "The pick finds hardly any example of “anger” (3 of 30) on the evaluation data. "
        "Set metric.name to macro_f1 where every class matters."
    )


def test_test_data_have_the_last_word(said) -> None:
    assert "“fear” (0 of 12) on the test data" in said(
        {"eval": EVAL, "test": {0: (9, 0), 1: (9, 9), 2: (12, 0)}}, task=TASK
    )
    assert said({"eval": EVAL, "test": {0: (10, 2), 1: (9, 0), 2: (12, 9)}}, task=TASK) == ""


def test_many_are_not_all_named(said) -> None:
    text = said({"eval": {i: (20 - i, 0 if i else 20) for i in range(6)}})
    assert "“joy” (0 of 19), “sadness” (0 of 18), “3” (0 of 17) and 2 more classes on" in text


def test_a_remedy_is_for_who_has_a_metric_to_set(said) -> None:
    assert said({"eval": EVAL}, task=TASK, imported={"file": "table.csv"}).endswith("on the evaluation data.")


def test_what_cannot_be_read_is_no_reason(make_run, make_record) -> None:
    run = make_run([make_record("a", 0.8), make_record("b", 0.6)])
    for name in ("a", "b"):
        run.write_outcomes(name, answers(EVAL, "eval"))
    (run.path / "outcomes" / "a.parquet").write_bytes(b"PAR1")
    results = read_results(run)
    assert not list(neglected_classes(results, pick(results)))
