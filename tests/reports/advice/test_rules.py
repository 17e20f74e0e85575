"""Every rule speaks where its fact is measured, is silent where it is not, and its change is a valid sweep."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Any

import pytest
import yaml

from lora_sweep.config import FinalistsConfig
from lora_sweep.records import EvalPoint, WeightNorms
from lora_sweep.sweep_file import parse_sweep
from reports import read_results, render_page
from reports.advice import RULES, Advice, Situation, advise

SPACE = {
    "target_modules": {"attention-qv": "attention-qv", "all-linear": "all-linear"},
    "rank": [4, 8, 16],
    "alpha": {"times_rank": [1, 2]},
    "dropout": [0.0, 0.05],
    "learning_rate": {"log_uniform": [1e-4, 1e-2]},
}


def curve(
    losses: list[float], train: list[float], quality: list[float], norms: tuple[float, float] | None = (5.0, 2.0)
) -> tuple[EvalPoint, ...]:
    """Evaluations 50 steps apart; accuracy is `quality`."""
    return tuple(
        EvalPoint(
            step=50 * i,
            metrics={"loss": loss, "accuracy": q},
            train_loss=t,
            device_seconds=5.0 * i,
            norms=None if norms is None else WeightNorms(a=norms[0], b=norms[1], update=norms[1]),
        )
        for i, (loss, t, q) in enumerate(zip(losses, train, quality, strict=True), start=1)
    )


FLAT = curve([0.9, 0.6, 0.51, 0.508], [1.0, 0.6, 0.50, 0.499], [0.6, 0.7, 0.75, 0.75])


@pytest.fixture
def make_sweep(make_run, make_record, make_info, outcomes, tmp_path):
    """A run with a whole sweep.yaml. A trial is name -> (right answers of 400, or None; settings of its record)."""

    number = count()

    def make(
        trials: Mapping[str, tuple[int | None, dict[str, Any]]],
        space: Mapping[str, Any] = SPACE,
        info: Mapping[str, Any] | None = None,
        baselines: Mapping[str, Any] | None = None,
        tested: Mapping[str, float] | None = None,
        shifts: Mapping[str, int] | None = None,
        **sections: Any,
    ):
        records = []
        for name, (right, settings) in trials.items():
            settings = dict(settings)
            history, repeat_of = settings.pop("history", FLAT), settings.pop("repeat_of", None)
            made = make_record(name, None if right is None else right / 400, **settings)
            updates: dict[str, Any] = {"repeat_of": repeat_of}
            if right is not None:
                updates["history"] = history
            records.append(made.model_copy(update=updates))
        parts = {"eval": {"examples": 400}, "test": {"examples": 400}}
        run = make_run(
            records, make_info(**{"data": {"parts": parts}, **(info or {})}), baselines, tested, f"run-{next(number)}"
        )
        for name, (right, settings) in trials.items():
            if right is not None and settings.get("status") != "stopped":
                run.write_outcomes(name, outcomes(right, shift=(shifts or {}).get(name, 0)))
        (tmp_path / "train.csv").write_text("text,label\na,b\n")
        sweep = {
            "model": {"name": "some/model"},
            "task": {"type": "classification", "text": "text", "label": "label",
                     "data": {"train": str(tmp_path / "train.csv")}},
            "space": dict(space),
            "budget": {"steps": 200, "eval_every": 50},
            "scheduler": {"type": "asha", "grace": 1, "reduction": 3},
        } | sections  # fmt: skip
        run.sweep_file.write_text(yaml.safe_dump(sweep))
        return run

    return make


def said(run: Any, rule: str) -> list[Advice]:
    """What one rule says; every change must be a valid sweep that differs from the run's."""
    found = list(next(one for one in RULES if one.__name__ == rule)(Situation(read_results(run))))
    for piece in found:
        assert piece.title and piece.fact and piece.why
        if not piece.change:
            continue
        raw = yaml.safe_load(run.sweep_file.read_text())
        before = parse_sweep(raw, "sweep.yaml", run.path)
        for section, keys in yaml.safe_load(piece.yaml).items():
            assert keys == piece.change[section]
            raw[section] = {**(raw.get(section) or {}), **keys}
        assert parse_sweep(raw, "sweep.yaml", run.path) != before
    return found


def several(number: int, right: int = 300, **settings: Any) -> dict[str, tuple[int | None, dict[str, Any]]]:
    return {f"t{i:02d}": (right - i % 3, {"learning_rate": 1e-3, **settings}) for i in range(number)}


# Training curves -----------------------------------------------------------------------------------------------

RISING = curve([0.9, 0.8, 0.7, 0.6], [1.0, 0.9, 0.8, 0.7], [0.60, 0.65, 0.70, 0.75])
MEMORISED = curve([0.9, 0.5, 0.6, 0.7], [1.0, 0.5, 0.3, 0.1], [0.60, 0.75, 0.74, 0.72])
STUCK = curve([1.1, 1.1, 1.1, 1.1], [1.10, 1.11, 1.10, 1.12], [0.33, 0.33, 0.33, 0.33])


def test_underfitting(make_sweep) -> None:
    (piece,) = said(make_sweep(several(3, history=RISING)), "underfitting")
    assert piece.change == {"budget": {"steps": 400, "eval_every": 100}}
    assert "from 0.700 to 0.600 (33 % of its whole fall)" in piece.fact and "best for 3 of 3" in piece.fact


@pytest.mark.parametrize("history", [FLAT, MEMORISED, STUCK, RISING[:2]])
def test_no_underfitting(make_sweep, history) -> None:
    assert not said(make_sweep(several(3, history=history)), "underfitting")


def test_underfitting_in_epochs(make_sweep) -> None:
    run = make_sweep(several(3, history=RISING), budget={"epochs": 1.5, "eval_every": 0.5})
    assert said(run, "underfitting")[0].change == {"budget": {"epochs": 3.0, "eval_every": 1}}


def test_overfitting(make_sweep) -> None:
    (piece,) = said(make_sweep(several(3, history=MEMORISED)), "overfitting")
    assert piece.change == {"budget": {"steps": 100, "eval_every": 25}, "space": {"dropout": [0.0, 0.05, 0.1]}}
    assert "3 of 3 leading trials got worse after 50 % of their steps" in piece.fact
    assert "from 0.500 to 0.700" in piece.fact and "3.0 points behind" in piece.fact


@pytest.mark.parametrize("history", [FLAT, RISING, STUCK])
def test_no_overfitting(make_sweep, history) -> None:
    assert not said(make_sweep(several(3, history=history)), "overfitting")


def test_one_of_three_does_not_make_overfitting(make_sweep) -> None:
    trials = several(3)
    trials["t00"] = (300, {"history": MEMORISED})
    assert not said(make_sweep(trials), "overfitting")


def test_hardly_trained(make_sweep) -> None:
    history = curve([1.1, 1.1], [1.100, 1.099], [0.33, 0.33], norms=(5.0, 0.001))
    (piece,) = said(make_sweep(several(4, history=history)), "hardly_trained")
    assert piece.change == {"space": {"learning_rate": {"log_uniform": [0.01, 0.3]}}}
    assert "In all 4 trials B" in piece.fact and "median 0.02 %" in piece.fact


@pytest.mark.parametrize(
    "history",
    [
        FLAT,
        curve([1.1, 1.1], [1.100, 1.099], [0.33, 0.33], norms=(5.0, 0.5)),
        curve([1.1, 0.9], [1.1, 0.9], [0.33, 0.4], norms=(5.0, 0.001)),
        curve([1.1, 1.1], [1.1, 1.1], [0.33, 0.33], norms=None),
    ],
)
def test_trained_enough(make_sweep, history) -> None:
    assert not said(make_sweep(several(4, history=history)), "hardly_trained")


# Learning rates ------------------------------------------------------------------------------------------------


def test_divergence_of_failed_trials(make_sweep) -> None:
    trials = several(6)
    error = "NonFiniteLossError: the training loss became nan at step 7"
    trials |= {f"f{i}": (None, {"status": "failed", "error": error, "learning_rate": 8e-3}) for i in range(2)}
    (piece,) = said(make_sweep(trials), "divergence")
    assert piece.change == {"space": {"learning_rate": {"log_uniform": [1e-4, 1e-3]}}}
    assert "2 trials ended with a loss that is not finite; their rates were 8e-3" in piece.fact


def test_divergence_of_stuck_trials_in_a_list(make_sweep) -> None:
    trials = several(6) | {f"s{i}": (130, {"history": STUCK, "learning_rate": 1e-2}) for i in range(2)}
    run = make_sweep(trials, SPACE | {"learning_rate": [1e-3, 3e-3, 1e-2]})
    (piece,) = said(run, "divergence")
    assert piece.change == {"space": {"learning_rate": [1e-3]}}
    assert "2 trials improved neither" in piece.fact


def test_failures_that_have_nothing_to_do_with_the_rate(make_sweep) -> None:
    trials = several(6)
    trials["t05"] = (300, {"learning_rate": 9e-3})
    nan = {"status": "failed", "error": "NonFiniteLossError: the training loss became nan"}
    memory = {"status": "failed", "error": "OutOfMemoryError: no room", "learning_rate": 9.5e-3}
    assert not said(make_sweep(trials | {"f": (None, nan | {"learning_rate": 1e-4})}), "divergence")
    assert not said(make_sweep(trials | {"f": (None, memory)}), "divergence")


def test_a_sweep_in_which_nothing_learns_is_not_called_divergence(make_sweep) -> None:
    assert not said(make_sweep(several(6, history=STUCK)), "divergence")


# The space -----------------------------------------------------------------------------------------------------


def at_the_edge(leaders: int, others: int, **settings: Any) -> dict[str, tuple[int | None, dict[str, Any]]]:
    first = {f"a{i}": (340, settings | {"alpha": float(settings["rank"])}) for i in range(leaders)}
    return first | {f"b{i}": (200, {"rank": 8, "alpha": 8.0, "learning_rate": 1e-3}) for i in range(others)}


def test_an_edge(make_sweep) -> None:
    (piece,) = said(make_sweep(at_the_edge(3, 12, rank=16, learning_rate=1e-3)), "edges")
    assert piece.change == {"space": {"rank": [4, 8, 16, 32]}} and piece.title == "Try a higher rank"
    assert "All 3 trials that cannot be told from the best have the highest rank of the space, 16" in piece.fact
    assert "of all 15 evaluated trials 3 do. By chance that would happen in 0.22 % of draws." in piece.fact


def test_a_lower_edge_of_a_range(make_sweep) -> None:
    (piece,) = said(make_sweep(at_the_edge(3, 12, rank=8, learning_rate=1.1e-4)), "edges")
    assert piece.change == {"space": {"learning_rate": {"log_uniform": [5e-5, 1e-2]}}}
    assert "lie near the lowest learning rate of the space (1.1e-4; its end is 1e-4)" in piece.fact


def test_no_edge(make_sweep) -> None:
    # two of fifteen at an edge that three share: chance does that
    assert not said(make_sweep(at_the_edge(1, 6, rank=16, learning_rate=1e-3)), "edges")
    assert not said(make_sweep(at_the_edge(3, 12, rank=8, learning_rate=1e-3)), "edges")
    # nothing lies below a dropout of 0, and what a choice decides has no edge of its own
    inner = {"value": "all-linear", "with": {"rank": [4, 16]}}
    space = SPACE | {"target_modules": {"attention-qv": "attention-qv", "all-linear": inner}}
    assert not said(make_sweep(at_the_edge(3, 12, rank=16, learning_rate=1e-3), space), "edges")


@pytest.mark.parametrize(("alpha", "speaks"), [(1.0, True), (64.0, True), (16.0, False), (4.0, False), (32.0, False)])
def test_scaling(make_sweep, alpha, speaks) -> None:
    found = said(make_sweep(several(4, rank=8, alpha=alpha), SPACE | {"alpha": alpha}), "scaling")
    assert bool(found) == speaks
    if found:
        assert found[0].change == {"space": {"alpha": {"times_rank": [1, 2]}}}
        assert f"alpha / rank is {alpha / 8:.3g} in all 4 trials" in found[0].fact


def test_scaling_that_differs_is_no_fact(make_sweep) -> None:
    trials = several(4, rank=8, alpha=1.0) | {"x": (300, {"rank": 8, "alpha": 8.0})}
    assert not said(make_sweep(trials, SPACE | {"alpha": [1.0, 8.0]}), "scaling")


def targets(seconds: float, wide: int = 300) -> dict[str, tuple[int | None, dict[str, Any]]]:
    """Four trials a set; a step with all-linear takes `seconds` / 0.1 times as long."""
    slow = {"target_label": "all-linear", "cost": {"device_seconds": 200 * seconds}, "parameters": 200_000}
    fast = {"target_label": "attention-qv", "cost": {"device_seconds": 20.0}}
    return {f"s{i}": (wide, slow) for i in range(4)} | {f"f{i}": (300, fast) for i in range(4)}


def test_dear_targets(make_sweep) -> None:
    (piece,) = said(make_sweep(targets(0.2)), "dear_targets")
    assert piece.change == {"space": {"target_modules": "attention-qv"}}
    assert "takes 2.0 times the device time" in piece.fact and "67 % of all device time" in piece.fact


def test_targets_that_are_worth_their_time(make_sweep) -> None:
    assert not said(make_sweep(targets(0.11)), "dear_targets")
    assert not said(make_sweep(targets(0.2, wide=380)), "dear_targets")


# What the data can tell ----------------------------------------------------------------------------------------


def ranks(high: int) -> dict[str, tuple[int | None, dict[str, Any]]]:
    return {f"l{i}": (300 + i, {"rank": 4}) for i in range(3)} | {f"h{i}": (high + i, {"rank": 16}) for i in range(3)}


def test_indistinct_ranks(make_sweep) -> None:
    shifts = {f"h{i}": 20 for i in range(3)}
    (piece,) = said(make_sweep(ranks(303), shifts=shifts), "indistinct_ranks")
    assert piece.change == {"space": {"rank": 4}}
    assert "Ranks 4, 16 each have a trial" in piece.fact and "about" in piece.fact
    assert not said(make_sweep(ranks(380)), "indistinct_ranks")


def test_evaluation_size(make_sweep) -> None:
    trials = {f"t{i}": (300 + i, {}) for i in range(5)}
    shifts = {f"t{i}": 12 * i for i in range(5)}
    (piece,) = said(make_sweep(trials, shifts=shifts), "evaluation_size")
    assert "5 of 5 complete trials cannot be told from the best on 400 evaluation examples" in piece.fact
    assert "1 point with 80 % power takes about" in piece.fact and not piece.change and piece.yaml == ""
    clear = {f"t{i}": (380 - 40 * i, {}) for i in range(5)}
    assert not said(make_sweep(clear), "evaluation_size")


def test_early_stopping(make_sweep) -> None:
    stopped = {f"s{i}": (250, {"status": "stopped", "reached": 50, "history": FLAT[:1]}) for i in range(6)}
    (piece,) = said(make_sweep(several(2) | stopped), "early_stopping")
    assert piece.change == {"scheduler": {"type": "asha", "grace": 1, "reduction": 2}}
    assert "ASHA stopped 6 of 8 trials, half of them by 25 % of their steps; 2 trained to the end." in piece.fact
    gentle = make_sweep(several(2) | stopped, scheduler={"type": "asha", "grace": 1, "reduction": 2})
    assert said(gentle, "early_stopping")[0].change["scheduler"]["grace"] == 2
    last = make_sweep(several(2) | stopped, scheduler={"type": "asha", "grace": 3, "reduction": 2})
    assert said(last, "early_stopping")[0].change == {"scheduler": {"type": "fifo"}}
    assert not said(make_sweep(several(3) | stopped), "early_stopping")


@pytest.mark.skipif("seeds" not in FinalistsConfig.model_fields, reason="new seeds are not trained yet")
def test_one_seed(make_sweep) -> None:
    rates = {"t00": (300, {"learning_rate": 1e-3}), "t01": (290, {"learning_rate": 2e-3})}
    run = make_sweep(rates, finalists={"top": 3, "seeds": 0})
    (piece,) = said(run, "one_seed")
    assert "t00 leads t01 by 2.5 points" in piece.fact and piece.change == {"finalists": {"seeds": 3}}


def test_several_seeds(make_sweep) -> None:
    trials = {"t00": (300, {"learning_rate": 1e-3}), "t01": (290, {"learning_rate": 2e-3})}
    repeated = trials | {"t00-seed2": (295, {"learning_rate": 1e-3, "seed": 5, "repeat_of": "t00"})}
    assert not said(make_sweep(repeated), "one_seed")
    twice = trials | {"t02": (295, {"learning_rate": 1e-3, "seed": 5})}
    assert not said(make_sweep(twice), "one_seed")
    assert not said(make_sweep(trials, SPACE | {"seed": [1, 2]}), "one_seed")


def head(test: float) -> dict[str, Any]:
    metrics = {"eval": {"accuracy": 0.7}, "test": {"accuracy": test}}
    return {"rows": [{"name": "head-only", "metrics": metrics, "trainable_parameters": 1155, "device_seconds": 3.0}]}


def test_no_better_than_the_head(make_sweep) -> None:
    space = SPACE | {"target_modules": {"attention-qv": "attention-qv"}}
    run = make_sweep(several(3), space, baselines=head(0.745), tested={"t00": 0.75})
    (piece,) = said(run, "no_better_than_baseline")
    assert piece.change["space"]["rank"] == [4, 8, 16, 32] and "all-linear" in piece.change["space"]["target_modules"]
    assert "0.5 points better than the baseline “head-only” with 74.5 %" in piece.fact
    better = make_sweep(several(3), baselines=head(0.6), tested={"t00": 0.75})
    assert not said(better, "no_better_than_baseline")
    assert not said(make_sweep(several(3), baselines=head(0.9)), "no_better_than_baseline")


# All together --------------------------------------------------------------------------------------------------


def test_a_key_is_changed_once_and_by_the_weightiest(make_sweep) -> None:
    nan = {"status": "failed", "error": "NonFiniteLossError: the training loss became nan", "learning_rate": 9.9e-3}
    trials = at_the_edge(3, 12, rank=8, learning_rate=9e-3) | {"f": (None, nan)}
    found = advise(make_sweep(trials, SPACE | {"learning_rate": {"log_uniform": [1e-4, 1e-2]}}))
    keys = [key for piece in found for key in piece.changed_keys()]
    assert len(keys) == len(set(keys)) and ("space", "learning_rate") in keys
    assert [piece.title for piece in found if "rate" in piece.title] == ["Lower the highest learning rate"]


def test_nothing_to_say(make_sweep, make_run, full_run) -> None:
    assert advise(make_run(name="empty")) == ()
    assert advise(make_sweep(several(3, history=RISING), info={"status": "running"})) == ()
    assert advise(make_run([], name="bare", info={})) == ()
    full_run.sweep_file.write_text("space: {rank: [0]}\nspace: twice")
    for piece in advise(full_run):
        assert "space" not in piece.change


def test_on_the_page(make_sweep) -> None:
    trials = {f"<i>{i}": (300 - 5 * i, {"history": RISING, "learning_rate": 1e-3 * (i + 1)}) for i in range(3)}
    page = render_page(make_sweep(trials))
    assert "<h3>Train for longer</h3>" in page and "budget: {steps: 400, eval_every: 100}" in page
    assert "&lt;i&gt;0 leads" in page and "<i>0" not in page.split("</main>")[0]
    assert 'id="mattered"' in page and 'href="#advice"' in page and "Spared by stopping" not in page
