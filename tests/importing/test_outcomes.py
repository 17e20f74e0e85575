"""Outcomes on examples that come with a table: the same statistics as for runs of this package."""

from __future__ import annotations

import numpy as np
import pytest

from lora_sweep.errors import ConfigError, InputError
from reports import CostRule, pick, render_page

TABLE = "trial_id,accuracy,trainable_parameters\na,0.85,9000\nb,0.835,500\nc,0.5,100\n"
RIGHT = {"a": (340, 0), "b": (334, 20), "c": (200, 0)}


def hits() -> dict[str, np.ndarray]:
    return {name: np.roll(np.arange(400) < right, shift) for name, (right, shift) in RIGHT.items()}


def correct_only() -> str:
    rows = [f"{name},{i},{int(hit)}" for name, one in hits().items() for i, hit in enumerate(one)]
    return "trial_id,example_id,correct\n" + "\n".join(rows)


def with_labels() -> str:
    words = ("no", "maybe", "yes")
    rows = [
        f"{name},{i},validation,{words[i % 3]},{words[(i + (not hit)) % 3]}"
        for name, one in hits().items()
        for i, hit in enumerate(one)
    ]
    return "trial_id,example_id,split,label,prediction\n" + "\n".join(rows)


@pytest.mark.parametrize("outcomes", [correct_only(), with_labels()], ids=["correct", "labels"])
def test_the_tie_set(imported, outcomes) -> None:
    results = imported(TABLE, outcomes=outcomes)
    assert results.tied == {"a", "b"} and pick(results).trial_id == "b"
    assert results.examples("eval") == 400
    found = results.compare(*results.ranked().head(2).to_dict("records"))
    assert found.paired and found.gain == pytest.approx(0.015)


def test_labels_are_numbered_by_name(imported) -> None:
    results = imported(TABLE, outcomes=with_labels())
    assert results.section("task")["labels"] == ["maybe", "no", "yes"]


def test_macro_f1_needs_labels(imported) -> None:
    words = hits()
    labels = np.arange(400) % 3
    f1 = {}
    for name, hit in words.items():
        predicted = np.where(hit, labels, (labels + 1) % 3)
        f1[name] = np.mean([2 * (hit & (labels == c)).sum() / ((labels == c).sum() + (predicted == c).sum())
                            for c in range(3)])  # fmt: skip
    table = "trial_id,macro_f1\n" + "\n".join(f"{name},{float(value)}" for name, value in f1.items())
    evidence = imported(table, outcomes=with_labels()).evidence["eval"][0]
    assert evidence.values == pytest.approx(sorted(f1.values(), reverse=True))
    assert imported(table, outcomes=correct_only()).evidence["eval"][0] is None


def test_language_models(imported) -> None:
    nll = {"a": 2.0 + 0.1 * np.sin(np.arange(60)), "b": 2.5 + 0.1 * np.sin(np.arange(60))}
    rows = [f"{name},{i},{value},1" for name, one in nll.items() for i, value in enumerate(one)]
    table = "trial_id,eval_loss\n" + "\n".join(f"{name},{one.mean()}" for name, one in nll.items())
    results = imported(table, outcomes="trial_id,example_id,nll_sum,tokens\n" + "\n".join(rows))
    assert results.tied == {"a"}
    low, high = results.interval("eval", "a", float(nll["a"].mean()))
    assert low < nll["a"].mean() < high


def test_outcomes_that_give_another_figure_are_not_used(imported) -> None:
    results = imported(TABLE.replace("0.835", "0.9"), outcomes=correct_only())
    assert results.evidence["eval"][1].left_out == {"b": "its outcomes give another accuracy than its record"}


def test_names_of_columns_by_the_map(imported) -> None:
    outcomes = correct_only().replace("trial_id,example_id,correct", "run,idx,hit")
    results = imported(TABLE, "outcomes: {trial_id: run, example_id: idx, correct: hit}", outcomes=outcomes)
    assert results.tied == {"a", "b"}


def test_ids_that_are_paths(imported, tmp_path) -> None:
    results = imported("trial_id,accuracy\n../../a,1.0\n..,0.5\n",
                       outcomes="trial_id,example_id,correct\n../../a,1,1\n../../a,2,1\n..,1,1\n..,2,0\n")  # fmt: skip
    assert set(results.evidence["eval"][0].trial_ids) == {"../../a", ".."}
    assert {file.parent.name for file in tmp_path.rglob("*.parquet")} == {"outcomes"}


@pytest.mark.parametrize(
    ("outcomes", "message"),
    [
        ("trial_id,example_id\na,1\n", "must have the columns correct, or label and prediction, or nll_sum and tokens"),
        ("trial_id,example_id,correct\nz,1,1\n", "column trial_id, row 1 (line 2): must be a trial of the table"),
        ("trial_id,example_id,correct\na,1,right\n", "column correct, row 1 (line 2): must be 1 or 0, true or false"),
        ("trial_id,example_id,correct\na,,1\n", "column example_id, row 1 (line 2): must not be empty"),
        ("trial_id,example_id,split,correct\na,1,train,1\n", "column split, row 1 (line 2): must be eval or test"),
        ("trial_id,correct\na,1\n", "must have the column example_id"),
        ("trial_id,example_id,nll_sum,tokens\na,1,x,3\n", "column nll_sum, row 1 (line 2): must be a number"),
    ],
)
def test_outcomes_are_refused(imported, outcomes, message) -> None:
    with pytest.raises(InputError) as refused:
        imported(TABLE, outcomes=outcomes)
    assert message in str(refused.value)


def test_without_known_parameters_the_best_figure_of_the_tie_set_is_picked(imported) -> None:
    results = imported("trial_id,accuracy\na,0.85\nb,0.835\nc,0.5\n", outcomes=correct_only())
    found = pick(results)
    assert (found.trial_id, found.runner_up["trial_id"]) == ("a", "b")
    assert found.why[0] == (
        "Trial a has the best figure of the 2 that cannot be told from the best: 85.0 % accuracy on the evaluation "
        "data. The cost had no part: it is not known."
    )
    assert "85.0 % accuracy" in render_page(results)
    assert pick(results, parsimony="one-standard-error").trial_id == "a"
    with pytest.raises(ConfigError, match="must have been measured for one that is open to choice"):
        pick(results, cost=CostRule.parse("parameters"))
