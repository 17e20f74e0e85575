"""The words of a pick: why this one, what its figures are worth, what was compared, what to bear in mind.

Two questions are kept apart: how good this adapter is (over examples) and how good its configuration is (over seeds).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from reports import pick_beside, units
from reports.candidates import cut_words
from reports.configurations import seed_text
from reports.pick_cost import PARAMETERS
from reports.results import Results
from reports.statistics import TieSet

if TYPE_CHECKING:
    from reports.pick import Pick

_NO_TIES = "without outcomes on the same examples, nobody knows who cannot be told from the best."


def explain(pick: Pick, results: Results) -> Iterator[str]:
    """The sentences of `Pick.why`, from the choice over the headline figure to the reservations."""
    yield _named(pick) if pick.by_name else _choice(pick)
    yield test_sentence(pick.chosen, results, pick.by_name)
    if pick.unfinished:
        yield "It was left out of the comparison: what was stopped is not compared with what trained to the end."
    elif pick.ties is not None and pick.within > 1:
        yield _compared(pick, pick.ties, results)
    yield from _limits(pick, results)
    yield from pick_beside.baselines(pick, results, test_examples(pick.chosen, results))
    yield from pick_beside.given_up(pick)
    yield from pick_beside.alternatives(pick)
    yield from _timing(pick)
    yield from _left_out(pick)
    yield from _parsimony(pick)
    yield seed_sentence(results, pick.chosen)


def test_sentence(row: Mapping[str, Any], results: Results, by_name: bool = False) -> str:
    """How good this adapter is: its test figure with examples and interval, or that there is none.

    Args:
        row: of the adapter.
        results: its run.
        by_name: whether somebody asked for it, so that its evaluation figure did not choose it.
    """
    metric, value = results.metric, row["test_quality"]
    if math.isnan(value):
        return _no_test(row, results, by_name)
    examples = test_examples(row, results)
    on = f"{units.plural(examples, 'test example')}" if examples else "the test data"
    bounds = results.interval("test", str(row["trial_id"]), value, examples)
    text = f"Test {metric.title}: {metric.text(value)} on {on}"
    if bounds is None:
        return f"{text}."
    others = len(results.finalist_intervals) if str(row["trial_id"]) in results.finalist_intervals else 0
    for_all = f", for all {others} adapters measured there at once" if others > 1 else ""
    return f"{text}, 95 % interval {metric.interval_text(bounds)}{for_all}."


def _no_test(row: Mapping[str, Any], results: Results, by_name: bool) -> str:
    metric = results.metric
    text = f"It was not measured on the test data: its {_evaluated(row, results)} comes from the evaluation data"
    if not by_name:
        text += ", which also chose it, and is likely to flatter it"
    elif metric.keep == "best":
        text += ", which also chose the step that was kept, and may flatter it"
    text += "."
    trained = results.trials.loc[results.trials["trial_id"] == row["source"], "test_quality"]
    if row["kind"] == "cut" and trained.notna().any():
        text += f" Trial {row['source']}, before the cut, reached {metric.text(float(trained.iloc[0]))} on test."
    return text


def _evaluated(row: Mapping[str, Any], results: Results) -> str:
    metric = results.metric
    bounds = results.interval("eval", str(row["trial_id"]), row["quality"])
    return metric.text(row["quality"]) + (f" (95 % interval {metric.interval_text(bounds)})" if bounds else "")


def test_examples(row: Mapping[str, Any], results: Results) -> int | None:
    """On how many test examples a trial was measured; None when that is not known."""
    own = row.get("test_examples", math.nan)
    return results.examples("test") if math.isnan(own) else int(own)


def seed_sentence(results: Results, row: Mapping[str, Any] | None = None) -> str:
    """How good the configuration of a trial is, over seeds, or that one seed cannot say it."""
    is_cut = row is not None and row["kind"] == "cut"
    told = "" if row is None else seed_text(results, str(row["source"]))
    if told:
        return f"{told} The seeds are of the uncut configuration; the cut was not made again." if is_cut else told
    if row is not None and len(results.repeats):
        which = "this configuration" if not is_cut else "its uncut configuration"
        return (
            "The intervals are over examples: how good this adapter is. How good its configuration is, one seed cannot "
            f"say: {which} was not among those trained again."
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


def seeds_per_configuration(results: Results) -> int:
    """The largest number of seeds with which one configuration was trained; 0 where seeds are unknown."""
    trials = results.trials
    return int(trials.groupby("configuration", dropna=False)["seed"].nunique().max()) if len(trials) else 0


def _named(pick: Pick) -> str:
    metric, chosen = pick.metric, pick.chosen
    figure = f"{metric.text(chosen['quality'])} {metric.title} on the evaluation data"
    text = f"{_subject(chosen)} was asked for by its id: {figure}.{_what(chosen)}"
    return f"{text} {_stopped(chosen)}" if chosen["status"] == "stopped" else text


def _subject(row: Mapping[str, Any]) -> str:
    return f"{'Cut' if row['kind'] == 'cut' else 'Trial'} {row['trial_id']}"


def _what(row: Mapping[str, Any]) -> str:
    return f" It is trial {row['source']}{cut_words(row)}." if row["kind"] == "cut" else ""


def _choice(pick: Pick) -> str:
    metric, chosen = pick.metric, pick.chosen
    room = " within the limits" if pick.within < pick.candidates else ""
    value = f"{metric.text(chosen['quality'])} {metric.title} on the evaluation data"
    if pick.ties is None:
        pool = "stopped trials" if chosen["status"] == "stopped" else pool_words(pick)
        text = f"{_subject(chosen)} has the best figure among the {pool}{room}: {value}.{_what(chosen)}"
        if chosen["status"] == "stopped":
            return f"{text} No trial trained to the end. {_stopped(chosen)}"
        return text if pick.cost == PARAMETERS else f"{text} The cost had no part in the choice: {_NO_TIES}"
    members = len(pick.ties.member_ids)
    if pick.within == 1:
        return f"{_subject(chosen)} is the only complete candidate{room}: {value}.{_what(chosen)}"
    if len(pick.ties.trial_ids) == 1:
        return f"{_subject(chosen)} has the best figure{room}: {value}.{_what(chosen)}"
    if members == 1 and len(pick.ties.trial_ids) < pick.within:
        return f"{_subject(chosen)} alone can be the best of those compared{room}: {value}.{_what(chosen)}"
    if members == 1:
        return f"{_subject(chosen)} alone can be the best{room}: {value}.{_what(chosen)}"
    return f"{_subject(chosen)} {_of_several(pick, pick.ties, room)}.{_what(chosen)}"


def _of_several(pick: Pick, ties: TieSet, room: str) -> str:
    """What a choice among the members of a tie set went by, and among how many."""
    costs, by_error = pick.costs or {}, pick.parsimony == "one-standard-error"
    room = room if len(ties.trial_ids) <= pick.within else ""  # the tie set of all keeps to no limit
    members = int(ties.within_one_error.sum()) if by_error else len(ties.member_ids)
    rule = f" and {'lie' if members > 1 else 'lies'} within one standard error of it" if by_error else ""
    tied = f"{members:,} that cannot be told from the best{room}{rule}" if members > 1 else ""
    alone = f"that cannot be told from the best{room}{rule}"
    of = f"{len(costs):,} open to choice, of the {tied}" if len(costs) < members else tied
    if all(math.isnan(cost) for cost in costs.values()):
        figure = f"{pick.metric.text(pick.chosen['quality'])} {pick.metric.title} on the evaluation data"
        found = (
            f"has the best figure of the {of}" if len(costs) > 1 else f"is the only one open to choice of the {tied}"
        )
        return f"{found}: {figure}. The cost had no part: it is not known" if members > 1 else f"is the one {alone}"
    how = pick.cost.text(dict(pick.chosen), costs[pick.trial_id])
    if members == 1:
        return f"is the only one {alone} ({how})"
    if len(costs) == 1:
        return f"is the only one open to choice ({how}) of the {tied}"
    least = pick.cost.single.least if pick.cost.single else f"lowest cost by {pick.cost.formula}"
    alike = sum(cost == costs[pick.trial_id] for cost in costs.values()) - 1
    if not alike:
        return f"has the {least} ({how}) of the {of}"
    better = "which has no better figure" if alike == 1 else "none of which has a better figure"
    return f"shares the {least} ({how}) with {units.plural(alike, 'other')}, {better}, among the {of}"


def pool_words(pick: Pick) -> str:
    """What was compared: `4 complete trials`, or `31 candidates (3 complete trials and 28 cuts of them)`."""
    trials = units.plural(pick.candidates - pick.cuts, "complete trial")
    if not pick.cuts:
        return trials
    return f"{pick.candidates} candidates ({trials} and {units.plural(pick.cuts, 'cut')} of them)"


def _stopped(row: Mapping[str, Any]) -> str:
    reached = units.progress(row["reached_step"], row["steps"])
    return f"It was stopped after {reached}, so its figure is not comparable with that of a finished trial."


def _compared(pick: Pick, ties: TieSet, results: Results) -> str:
    """What was compared, what is ruled out, and whether what was asked for by name is."""
    evidence = results.evidence["eval"][0]
    examples = f" {units.plural(evidence.examples, 'example')}" if evidence else " examples"
    chosen = pick.chosen
    figure = "" if math.isnan(chosen["test_quality"]) else f" Its own figure there is {_evaluated(chosen, results)}."
    compared, out = len(ties.trial_ids), len(ties.trial_ids) - len(ties.member_ids)
    untested = pick.within - compared
    if untested > 0 and not pick.by_name:
        rest = f"The other {untested:,} were not tested" if untested > 1 else "The other one was not tested"
        figure = f" {rest}: the best may be among them.{figure}" if untested > 1 else f" {rest}.{figure}"
    if compared == 1:
        return f"No other of the {pool_words(pick)} could be compared with it example by example.{figure}"
    of = f"{compared:,} of the " if compared < pick.candidates else "the "
    how = (
        f"Compared: {of}{pool_words(pick)}, each with all others at once on the same{examples} of the evaluation data."
    )
    if pick.trial_id in ties.trial_ids and pick.trial_id not in ties.member_ids:
        others = f" and {units.plural(out - 1, 'other')}" if out > 1 else ""
        return f"{how} That rules it{others} out as the best (95 %).{figure}"
    said = f"{out} {'is' if out == 1 else 'are'}" if out else "None is"
    return f"{how} {said} ruled out as the best (95 %).{figure}"


def _limits(pick: Pick, results: Results) -> Iterator[str]:
    """What the pick had to keep to, and how its test figure stands to a quality that was asked for."""
    rules = pick.limits.rules(pick.metric)
    if not rules:
        return
    text = f"It keeps to {' and '.join(rule.text for rule in rules)}"
    yield f"{text}." if pick.by_name else f"{text}, as {pick.within} of {pick.candidates} candidates do."
    least = pick.limits.min_quality
    if least is None:
        return
    metric, chosen = pick.metric, pick.chosen
    value = chosen["test_quality"]
    asked = f"the {metric.text(least)} that was asked for"
    if math.isnan(value):
        yield f"Whether it keeps {asked} on new data is not known: it has no test figure."
        return
    bounds = results.interval("test", pick.trial_id, value, test_examples(chosen, results))
    lowest = None if bounds is None else min(metric.gain(bound, least) for bound in bounds)
    if metric.gain(value, least) < 0:
        yield f"Its test figure, {metric.text(value)}, does not reach {asked} on the evaluation data."
    elif lowest is not None and lowest < 0:
        yield f"Its test figure, {metric.text(value)}, reaches {asked}, but its interval goes below."
    else:
        yield f"Its test figure, {metric.text(value)}, reaches {asked}."


def _timing(pick: Pick) -> Iterator[str]:
    """What a choice by latency rests on, and whom it could not compare."""
    if not pick.cost.includes("latency") and pick.limits.max_latency_ms is None:
        return
    low, high = pick.chosen["latency_low"], pick.chosen["latency_high"]
    if not math.isnan(low):
        yield (
            f"Its latency is the median of unmerged passes; the quartiles are {units.number(1000 * low)} to "
            f"{units.number(1000 * high)} ms, and where those of two candidates overlap their order may be chance. "
            "Merged into the base, every candidate runs at the base's speed."
        )
    costs = pick.costs or {}
    unknown = sum(math.isnan(value) for value in costs.values()) if pick.cost.includes("latency") else 0
    if unknown:
        yield (
            f"{unknown} of the {len(costs)} open to choice were not timed and could not be chosen by latency; "
            "lora-sweep analyze RUN --top N times the N leading trials, and no cuts."
        )


def _left_out(pick: Pick) -> Iterator[str]:
    if pick.ruled_out:
        names = ", ".join(pick.ruled_out[:5]) + (" and others" if len(pick.ruled_out) > 5 else "")
        yield f"Left out of the choice, because with other seeds their configuration is ruled out as the best: {names}."
    if pick.unrepeated:
        names = ", ".join(pick.unrepeated[:5]) + (" and others" if len(pick.unrepeated) > 5 else "")
        yield (
            "Configurations that were trained with other seeds and not ruled out come first; behind them, because they "
            f"were not: {names}."
        )


def _parsimony(pick: Pick) -> Iterator[str]:
    """What the stricter convention would say, where it says something else."""
    ties = pick.ties
    if ties is None or pick.parsimony != "tie-set" or pick.trial_id not in ties.member_ids:
        return
    within = [name for name, mark in zip(ties.trial_ids, ties.within_one_error, strict=True) if mark]
    costs = {name: value for name, value in (pick.costs or {}).items() if name in within and not math.isnan(value)}
    if pick.trial_id not in within and costs:
        yield (
            "It lies more than one standard error behind the best figure. By the one-standard-error rule "
            "(--parsimony one-standard-error), a convention and no test, the pick would be "
            f"{min(costs, key=costs.__getitem__)}."
        )
