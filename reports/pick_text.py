"""The words of a pick: why this trial, what was given up, what its figures are worth."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from reports import units
from reports.intervals import interval
from reports.results import Results

if TYPE_CHECKING:
    from reports.pick import Pick


def explain(pick: Pick, results: Results, *, max_parameters: int | None, by_name: bool) -> Iterator[str]:
    """The sentences of `Pick.why`, from the choice over the headline figure to the reservations."""
    yield _choice(pick, max_parameters, by_name)
    yield test_sentence(pick.chosen, results)
    if pick.chosen["trial_id"] != pick.best["trial_id"]:
        yield _given_up(pick)
    if pick.runner_up is not None:
        yield _runner_up(pick, pick.runner_up)
    if pick.smaller is not None:
        yield _smaller(pick, pick.smaller)
    yield from _as_good_baselines(pick, results)
    yield seed_sentence(results)


def test_sentence(row: Mapping[str, Any], results: Results) -> str:
    """The test figure of a trial with its number of examples and its interval, or that there is none."""
    metric, value = results.metric, row["test_quality"]
    if math.isnan(value):
        return (
            f"It was not measured on the test data: its {metric.text(row['quality'])} comes from the evaluation "
            "data, which also chose it, and is likely to flatter it."
        )
    examples = test_examples(row, results)
    on = f"{units.plural(examples, 'test example')}" if examples else "the test data"
    bounds = interval(metric, value, examples)
    text = f"Test {metric.title}: {metric.text(value)} on {on}"
    if bounds is None:
        return f"{text}."
    low, high = (f"{100 * bound:.1f}" for bound in bounds)
    return f"{text}, 95 % interval {low} to {high} %."


def _as_good_baselines(pick: Pick, results: Results) -> Iterator[str]:
    """A warning for each baseline that is no worse, on test data where both were measured there, else on eval."""
    metric = pick.metric
    for row in results.baselines.to_dict("records"):
        on_test = not (math.isnan(pick.chosen["test_quality"]) or math.isnan(row["test_quality"]))
        column, part = ("test_quality", "test") if on_test else ("quality", "evaluation")
        if metric.gain(row[column], pick.chosen[column]) >= 0:
            value = metric.text(row[column])
            yield f"The baseline {row['name']} is no worse: {value} on the {part} data. This adapter gained nothing."


def test_examples(row: Mapping[str, Any], results: Results) -> int | None:
    """On how many test examples a trial was measured; None when that is not known."""
    own = row.get("test_examples", math.nan)
    return results.examples("test") if math.isnan(own) else int(own)


def seed_sentence(results: Results) -> str:
    """How many seeds a configuration was trained with."""
    seeds = seeds_per_configuration(results)
    if seeds <= 1:
        return "Every configuration was trained with one seed; another seed may order them differently."
    return f"Some configurations were trained with up to {seeds} seeds; the figures are still of single trials."


def seeds_per_configuration(results: Results) -> int:
    """The largest number of seeds with which one configuration was trained."""
    trials = results.trials
    keys = ["rank", "alpha", "dropout", "target_label", "learning_rate", "batch_size", "steps"]
    return int(trials.groupby(keys, dropna=False)["seed"].nunique().max()) if len(trials) else 0


def _choice(pick: Pick, limit: int | None, by_name: bool) -> str:
    metric, chosen = pick.metric, pick.chosen
    value = f"{metric.title} on the evaluation data"
    figure = metric.text(chosen["quality"])
    stopped = chosen["status"] == "stopped"
    if by_name:
        asked = f"was asked for by its id: {figure} {value}."
        if not stopped:
            return f"Trial {chosen['trial_id']} {asked}"
        at = f"step {chosen['reached_step']} of {chosen['steps']}"
        warning = "so its figure is not comparable with those of finished trials"
        return f"The scheduler stopped trial {chosen['trial_id']} at {at}, {warning}. It {asked}"
    pool = "stopped" if stopped else "complete"
    room = f" with at most {units.count(limit)} parameters" if limit is not None else ""
    text = f"Trial {chosen['trial_id']} has the best {value} among the {pool} trials{room}: {figure}."
    if stopped:
        reached = f"{chosen['reached_step']} of {chosen['steps']} steps"
        text += f" No trial trained to the end. It was stopped after {reached}, "
        text += "so its figure is not that of a finished trial."
    return text


def _given_up(pick: Pick) -> str:
    metric, difference = pick.metric, pick.against_best
    saved = pick.parameters_saved
    size = f"{units.count(abs(saved))} {'fewer' if saved > 0 else 'more'} parameters" if saved else "as many parameters"
    beside = f"than the best trial, {pick.best['trial_id']}"
    if difference.gain > 0:
        return f"It is {metric.difference_text(difference.gain)} better {beside}, which is complete, with {size}."
    if difference.gain == 0:
        return f"It is equal to {pick.best['trial_id']} on the evaluation data, with {size}."
    return f"It is {metric.difference_text(difference.gain)} worse {beside}, with {size}{_worth(pick, difference)}."


def _runner_up(pick: Pick, row: Mapping[str, Any]) -> str:
    difference = pick.against_runner_up
    assert difference is not None
    name = f"{row['trial_id']} ({units.count(row['trainable_parameters'])} parameters)"
    if difference.gain == 0:
        return f"The next candidate, {name}, is equal on the evaluation data."
    side = "behind" if difference.gain > 0 else "ahead"
    size = pick.metric.difference_text(difference.gain)
    return f"The next candidate, {name}, is {size} {side}{_worth(pick, difference)}."


def _smaller(pick: Pick, row: Mapping[str, Any]) -> str:
    times = pick.chosen["trainable_parameters"] / max(1, row["trainable_parameters"])
    return (
        f"The smallest trial that cannot be told apart from it is {row['trial_id']} with "
        f"{units.count(row['trainable_parameters'])} parameters, {times:.1f} times fewer."
    )


def _worth(pick: Pick, difference: Any) -> str:
    """Whether the evaluation data can tell a difference, as the end of a sentence."""
    if difference.told_apart is None:
        return "; whether that is more than chance was not tested"
    half = pick.metric.difference_text(difference.half_width)
    if difference.told_apart:
        return f", more than the {half} that this many evaluation examples can tell apart"
    return f"; differences under about {half} cannot be told apart on this many evaluation examples"
