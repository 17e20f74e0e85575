"""The words of a pick beside others: the baselines, the best, and what one would take in its place."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from reports import units
from reports.metric import Metric
from reports.pick_cost import COSTS
from reports.results import Results
from reports.statistics import Comparison

if TYPE_CHECKING:
    from reports.pick import Pick

_CLEARLY = 0.9
"""A cost counts as lower below this part of the other."""


def baselines(pick: Pick, results: Results, test_examples: int | None) -> Iterator[str]:
    """How far the baselines lie behind, on test data where the pick was measured there, and those that are no worse."""
    metric, chosen = pick.metric, pick.chosen
    part = "eval" if math.isnan(chosen["test_quality"]) else "test"
    column = "quality" if part == "eval" else "test_quality"
    examples, worse = results.examples("eval") if part == "eval" else test_examples, []
    for row in results.baselines.to_dict("records"):
        named = {str(key): value for key, value in row.items()}
        found = results.beside_baseline(chosen, named, examples, part)
        if found is None:
            continue
        if found.gain > 0:
            worse.append(f"{metric.difference_text(found.gain)} better than {row['name']} ({worth(metric, found)})")
        else:
            value, where = metric.text(row[column]), "test" if part == "test" else "evaluation"
            no_worse = f"The baseline {row['name']} is no worse: {value} on the {where} data."
            yield f"{no_worse} Nothing shows that this adapter gained anything."
    if worse:
        where = "On the test data" if part == "test" else "On the evaluation data, which chose it,"
        yield f"{where} it is {' and '.join(worse)}."


def given_up(pick: Pick) -> Iterator[str]:
    """What the pick gives up against the best figure, and at most against the true best."""
    if pick.unfinished:
        return
    ties, sentences = pick.ties, []
    if pick.trial_id != pick.best["trial_id"]:
        sentences.append(_beside_best(pick))
    if ties is not None and len(ties.trial_ids) > 1 and pick.trial_id in ties.trial_ids:
        bound = ties.at_most_behind(pick.trial_id)
        if bound > 0:
            sentences.append(
                "Allowing for chance and for the choice, it lies at most "
                f"{pick.metric.difference_text(bound)} behind the best of those compared (95 %)."
            )
    if sentences:
        yield " ".join(sentences)


def alternatives(pick: Pick) -> Iterator[str]:
    """The second choice with its reasons, the cheapest without a cut, and the smallest."""
    if pick.unfinished and pick.runner_up is not None:
        row = pick.runner_up
        figure = f"{pick.metric.text(row['quality'])} on the evaluation data"
        yield f"The pick among those that trained to the end is {row['trial_id']} ({_size(pick, row)}, {figure})."
        return
    if pick.runner_up is not None and pick.against_runner_up is not None:
        name = f"{pick.runner_up['trial_id']} ({_size(pick, pick.runner_up)})"
        beside = _beside(pick.metric, pick.against_runner_up)
        yield f"Second choice: {name}, {beside}. {_when(pick, pick.runner_up, pick.against_runner_up)}"
    trained = pick.as_trained
    if trained is not None and (pick.runner_up is None or trained["trial_id"] != pick.runner_up["trial_id"]):
        test = trained["test_quality"]
        measured = "no test figure" if math.isnan(test) else f"{pick.metric.text(test)} on test"
        yield (
            f"Of the trials as they were trained, it would be {trained['trial_id']} ({_size(pick, trained)}, "
            f"{pick.metric.text(trained['quality'])} on the evaluation data, {measured})."
        )
    if pick.smaller is not None:
        times = pick.chosen["trainable_parameters"] / max(1, pick.smaller["trainable_parameters"])
        yield (
            f"The smallest that cannot be told apart from it is {pick.smaller['trial_id']} with "
            f"{units.count(pick.smaller['trainable_parameters'])} parameters, {times:.1f} times fewer."
        )


def worth(metric: Metric, difference: Comparison) -> str:
    """What the examples can tell of a difference, without its sign: interval, p-value and how they were compared."""
    if difference.bounds is None:
        return "whether that is more than chance was not tested"
    low, high = difference.bounds
    text = f"95 % interval {metric.gain_text((-high, -low) if difference.gain < 0 else (low, high))}"
    if not difference.paired or difference.p_value is None:
        return f"{text}, not paired"
    chance = "p < 0.001" if difference.p_value < 0.001 else f"p = {difference.p_value:.2g}"
    return f"{text}, {chance}, paired"


def _beside_best(pick: Pick) -> str:
    metric, difference, saved = pick.metric, pick.against_best, pick.parameters_saved
    size = f"{units.count(abs(saved))} {'fewer' if saved > 0 else 'more'} parameters" if saved else "as many parameters"
    if math.isnan(pick.best["trainable_parameters"] - pick.chosen["trainable_parameters"]):
        size = "a size that cannot be compared"
    best = f"the best figure, that of {pick.best['trial_id']}"
    if difference.gain == 0:
        return f"It is equal to {pick.best['trial_id']}, which has the best figure, with {size}."
    if difference.gain > 0:
        return f"It is {metric.difference_text(difference.gain)} better than {best}, which is complete, with {size}."
    off = metric.difference_text(difference.gain)
    return f"It lies {off} behind {best} ({worth(metric, difference)}), with {size}."


def _beside(metric: Metric, difference: Comparison) -> str:
    if difference.gain == 0:
        return "equal on the evaluation data"
    side = "behind" if difference.gain > 0 else "ahead"
    return f"{metric.difference_text(difference.gain)} {side} ({worth(metric, difference)})"


def _size(pick: Pick, row: Mapping[str, Any]) -> str:
    """The parameters of a candidate and what the choice went by."""
    names = dict.fromkeys(("parameters", *dict(pick.cost.weights)))
    values = ((name, row[COSTS[name].column]) for name in names)
    return ", ".join(COSTS[name].text(value) if value > 0 else f"{name} unknown" for name, value in values)


def _when(pick: Pick, row: Mapping[str, Any], difference: Comparison) -> str:
    """When one would take another candidate instead."""
    ties = pick.ties
    if ties is None:
        return f"Take it where {pick.trial_id} cannot be used."
    if row["trial_id"] not in ties.member_ids and pick.trial_id in ties.member_ids:
        return f"Take it only where {pick.trial_id} cannot be used: it is ruled out as the best."
    reasons = [*_better(pick, row, difference)]
    if cheaper := list(_cheaper(pick, row)):
        reasons.append(f"what counts is {' or '.join(filter(None, (', '.join(cheaper[:-1]), cheaper[-1])))}")
    if math.isnan(pick.chosen["test_quality"]) and not math.isnan(row["test_quality"]):
        reasons.append(f"you want one that was measured on test ({pick.metric.text(row['test_quality'])})")
    if pick.is_cut and row["kind"] == "trial":
        reasons.append("you want one that is used as it was trained")
    if not reasons:
        return "Nothing that was measured speaks for taking it first."
    return f"Take it if {', or '.join(reasons)}."


def _better(pick: Pick, row: Mapping[str, Any], difference: Comparison) -> Iterator[str]:
    if difference.gain < 0:
        sure = "" if difference.told_apart else ", which may be chance,"
        yield f"{pick.metric.difference_text(difference.gain)}{sure} are worth {_price(pick, row)}"


def _price(pick: Pick, row: Mapping[str, Any]) -> str:
    """What another candidate costs more by the cost that the choice went by."""
    cost = pick.cost.single
    more = math.nan if cost is None else row[cost.column] - pick.chosen[cost.column]
    if cost is None or math.isnan(more):
        return "what else it costs"
    return f"{cost.text(more)} more" if more > 0 else "the change, since it costs no more"


def _cheaper(pick: Pick, row: Mapping[str, Any]) -> Iterator[str]:
    """What else counts and is clearly lower."""
    for name, cost in COSTS.items():
        mine, other = pick.chosen[cost.column], row[cost.column]
        if not pick.cost.includes(name) and 0 < other < _CLEARLY * mine:
            yield f"{name.replace('-', ' ')} ({cost.say(other)} instead of {cost.say(mine)})"
