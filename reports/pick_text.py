"""The words of a pick: why this trial, what it beat, what was given up, what its figures are worth.

Two questions are kept apart: how good this adapter is (over examples) and how good its configuration is (over seeds).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from reports import units
from reports.results import Results
from reports.statistics import Comparison, SeedSummary, TieSet, over_seeds

if TYPE_CHECKING:
    from reports.pick import Pick

COST_NAMES = {
    "trainable_parameters": ("fewest trainable parameters", units.count),
    "adapter_bytes": ("smallest adapter", units.size),
    "device_seconds": ("least device time", units.duration),
    "state_bytes": ("smallest training state", units.size),
}
"""What "cheapest" may mean, and how its values are written."""


def explain(pick: Pick, results: Results, *, max_parameters: int | None, by_name: bool) -> Iterator[str]:
    """The sentences of `Pick.why`, from the choice over the headline figure to the reservations."""
    yield _named(pick) if by_name else _choice(pick, results, max_parameters)
    if pick.ties is not None and len(pick.ties.trial_ids) > 1:
        yield _beaten(pick, pick.ties, results)
    yield test_sentence(pick.chosen, results)
    if pick.chosen["trial_id"] != pick.best["trial_id"]:
        yield _given_up(pick)
    if pick.ties is not None and len(pick.ties.trial_ids) > 1 and pick.chosen["trial_id"] in pick.ties.trial_ids:
        bound = pick.metric.difference_text(pick.ties.at_most_behind(pick.trial_id))
        yield f"Allowing for chance and for the choice, it lies at most {bound} behind the best of them (95 %)."
    if pick.runner_up is not None:
        yield _runner_up(pick, pick.runner_up)
    if pick.smaller is not None:
        yield _smaller(pick, pick.smaller)
    yield from _as_good_baselines(pick, results)
    yield from _parsimony(pick)
    yield seed_sentence(results, pick.chosen)


def test_sentence(row: Mapping[str, Any], results: Results) -> str:
    """How good this adapter is: its test figure with examples and interval, or that there is none."""
    metric, value = results.metric, row["test_quality"]
    if math.isnan(value):
        return (
            f"It was not measured on the test data: its {metric.text(row['quality'])} comes from the evaluation "
            "data, which also chose it, and is likely to flatter it."
        )
    examples = test_examples(row, results)
    on = f"{units.plural(examples, 'test example')}" if examples else "the test data"
    bounds = results.interval("test", str(row["trial_id"]), value, examples)
    text = f"Test {metric.title}: {metric.text(value)} on {on}"
    if bounds is None:
        return f"{text}."
    others = len(results.finalist_intervals) if str(row["trial_id"]) in results.finalist_intervals else 0
    for_all = f", for the {others} finalists at once" if others > 1 else ""
    return f"{text}, 95 % interval {metric.interval_text(bounds)}{for_all}."


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


def seed_sentence(results: Results, row: Mapping[str, Any] | None = None) -> str:
    """How good the configuration of a trial is, over seeds, or that one seed cannot say it."""
    own = None if row is None else seed_summary(results, row)
    if own is not None:
        metric = results.metric
        return (
            f"Its configuration was trained with {own.seeds} seeds: mean {metric.title} on the evaluation data "
            f"{metric.text(own.mean)}, 95 % interval {metric.interval_text(own.bounds)} over seeds and examples; the "
            "other figures are of this one adapter."
        )
    if seeds_per_configuration(results) == 1:
        return (
            "The intervals are over examples: how good each adapter is. How good its configuration is, one seed cannot "
            "say: every configuration was trained with one seed, and another may order them differently."
        )
    return (
        "The intervals are over examples: how good this adapter is. How good its configuration is, over seeds, "
        "is not known."
    )


def seed_summary(results: Results, row: Mapping[str, Any]) -> SeedSummary | None:
    """The complete trials of a trial's configuration over their seeds; None for one seed or without outcomes."""
    evidence = results.evidence["eval"][0]
    same = results.ranked("complete")
    same = same[same["configuration"] == row["configuration"]].drop_duplicates("seed")
    if evidence is None or len(same) < 2:
        return None
    error = evidence.error_of_mean([str(name) for name in same["trial_id"]])
    return None if math.isnan(error) else over_seeds([float(value) for value in same["quality"]], error)


def seeds_per_configuration(results: Results) -> int:
    """The largest number of seeds with which one configuration was trained; 0 where seeds are unknown."""
    trials = results.trials
    return int(trials.groupby("configuration", dropna=False)["seed"].nunique().max()) if len(trials) else 0


def _named(pick: Pick) -> str:
    metric, chosen = pick.metric, pick.chosen
    figure = f"{metric.text(chosen['quality'])} {metric.title} on the evaluation data"
    text = f"Trial {chosen['trial_id']} was asked for by its id: {figure}."
    return f"{text} {_stopped(chosen)}" if chosen["status"] == "stopped" else text


def _choice(pick: Pick, results: Results, limit: int | None) -> str:
    metric, chosen = pick.metric, pick.chosen
    room = f" with at most {units.count(limit)} parameters" if limit is not None else ""
    value = f"{metric.title} on the evaluation data"
    if pick.ties is None:
        pool = "stopped" if chosen["status"] == "stopped" else "complete"
        figure = metric.text(chosen["quality"])
        text = f"Trial {chosen['trial_id']} has the best {value} among the {pool} trials{room}: {figure}."
        return f"{text} No trial trained to the end. {_stopped(chosen)}" if chosen["status"] == "stopped" else text
    figure = metric.text(chosen["quality"])
    bounds = results.interval("eval", pick.trial_id, chosen["quality"])
    figure += f", 95 % interval {metric.interval_text(bounds)}" if bounds else ""
    members, compared = len(pick.ties.member_ids), len(pick.ties.trial_ids)
    if compared == 1:
        return f"Trial {chosen['trial_id']} is the only complete trial{room}: {figure} ({value})."
    if members == 1:
        return (
            f"Trial {chosen['trial_id']} alone can be the best of {compared} complete trials{room}: {figure} ({value})."
        )
    name, say = COST_NAMES[pick.cost]
    rule = " and lie within one standard error of it" if pick.parsimony == "one-standard-error" else ""
    if math.isnan(chosen[pick.cost]):
        return (
            f"Trial {chosen['trial_id']} has the best figure of the {members} that cannot be told from the best{rule}, "
            f"among {compared} complete trials{room}: {figure} ({value}). Which of them has the {name} is not known."
        )
    return (
        f"Trial {chosen['trial_id']} has the {name} ({say(chosen[pick.cost])}) of the {members} that cannot be told "
        f"from the best{rule}, among {compared} complete trials{room}: {figure} ({value})."
    )


def _stopped(row: Mapping[str, Any]) -> str:
    reached = units.progress(row["reached_step"], row["steps"])
    return f"It was stopped after {reached}, so its figure is not comparable with that of a finished trial."


def _beaten(pick: Pick, ties: TieSet, results: Results) -> str:
    """Which trials the evaluation data rule out, and whether a trial asked for by name is one of them."""
    evidence = results.evidence["eval"][0]
    assert evidence is not None
    out = len(ties.trial_ids) - len(ties.member_ids)
    how = f"each compared with all others at once on the same {units.plural(evidence.examples, 'example')}"
    if pick.trial_id in ties.trial_ids and pick.trial_id not in ties.member_ids:
        others = f" and {units.plural(out - 1, 'other trial')}" if out > 1 else ""
        return f"The evaluation data rule it{others} out as the best (95 %, {how})."
    if out == 0:
        return f"It beat none: the evaluation data rule out no trial as the best (95 %, {how})."
    return f"The evaluation data rule out {units.plural(out, 'trial')} as the best (95 %, {how})."


def _given_up(pick: Pick) -> str:
    metric, difference = pick.metric, pick.against_best
    saved = pick.parameters_saved
    size = f"{units.count(abs(saved))} {'fewer' if saved > 0 else 'more'} parameters" if saved else "as many parameters"
    if math.isnan(pick.chosen["trainable_parameters"] - pick.best["trainable_parameters"]):
        size = "a size that is not known beside it"
    beside = f"than the best trial, {pick.best['trial_id']}"
    if difference.gain > 0:
        return f"It is {metric.difference_text(difference.gain)} better {beside}, which is complete, with {size}."
    if difference.gain == 0:
        return f"It is equal to {pick.best['trial_id']} on the evaluation data, with {size}."
    return f"It is {metric.difference_text(difference.gain)} worse {beside}, with {size}{_worth(pick, difference)}."


def _runner_up(pick: Pick, row: Mapping[str, Any]) -> str:
    difference = pick.against_runner_up
    assert difference is not None
    size = units.count(row["trainable_parameters"])
    name = str(row["trial_id"]) + (f" ({size} parameters)" if size != units.MISSING else "")
    if difference.gain == 0:
        return f"The next candidate, {name}, is equal on the evaluation data."
    side = "behind" if difference.gain > 0 else "ahead"
    behind = pick.metric.difference_text(difference.gain)
    return f"The next candidate, {name}, is {behind} {side}{_worth(pick, difference)}."


def _smaller(pick: Pick, row: Mapping[str, Any]) -> str:
    times = pick.chosen["trainable_parameters"] / max(1, row["trainable_parameters"])
    return (
        f"The smallest trial that cannot be told apart from it is {row['trial_id']} with "
        f"{units.count(row['trainable_parameters'])} parameters, {times:.1f} times fewer."
    )


def _parsimony(pick: Pick) -> Iterator[str]:
    """What the stricter convention would say, where it says something else."""
    ties = pick.ties
    if ties is None or pick.parsimony != "tie-set" or pick.trial_id not in ties.member_ids:
        return
    within = [name for name, mark in zip(ties.trial_ids, ties.within_one_error, strict=True) if mark]
    if pick.trial_id not in within:
        yield (
            f"It lies more than one standard error behind; by the one-standard-error rule, a convention and no test, "
            f"only {', '.join(within[:5])}{' and others' if len(within) > 5 else ''} would be open to choice."
        )


def _worth(pick: Pick, difference: Comparison) -> str:
    """Whether the evaluation data can tell a difference, as the end of a sentence."""
    if difference.paired and difference.bounds is not None and difference.p_value is not None:
        low, high = difference.bounds
        flipped = (-high, -low) if difference.gain < 0 else (low, high)
        chance = "p < 0.001" if difference.p_value < 0.001 else f"p = {difference.p_value:.2g}"
        return f" (95 % interval {pick.metric.gain_text(flipped)}, {chance}, paired)"
    if difference.told_apart is None or difference.half_width is None:
        return "; whether that is more than chance was not tested"
    half = pick.metric.difference_text(difference.half_width)
    if difference.told_apart:
        return f", more than the {half} that this many evaluation examples can tell apart"
    return f"; differences under about {half} cannot be told apart on this many evaluation examples"
