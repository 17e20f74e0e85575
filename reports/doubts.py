"""What to doubt about a run: each sentence names the measured fact that it rests on."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

from lora_sweep.store import RunFolder
from reports import units
from reports.frame import finite
from reports.imported import import_doubts
from reports.neglected import neglected_classes
from reports.pick import Pick
from reports.pick_text import seed_sentence, test_examples
from reports.results import MOST_COMPARED, Results
from reports.statistics.alignment import NO_OUTCOMES

_SAME = 1e-3
"""Figures that differ by less than this part are taken for the same, up to rounding."""


def doubts(results: Results, pick: Pick | None) -> list[str]:
    """The reservations that a reader must know before using the pick, most weighty first."""
    found = [*import_doubts(results), *_unfinished(results)]
    if pick is not None:
        found += [*_beside_baselines(results, pick), *neglected_classes(results, pick)]
        found += [*_noise(results, pick), *_selection(results, pick)]
        found += [*_unaligned(results), *_remeasured(results)]
    if len(results.trials):
        found += [seed_sentence(results, pick.chosen if pick else None), *_losses(results)]
    notes = results.section("data").get("notes")
    found += [str(note) for note in notes] if isinstance(notes, list) else []
    found += [str(note) for note in results.info.get("space_notes") or ()]
    return found


def _unfinished(results: Results) -> Iterator[str]:
    status = results.info.get("status")
    planned = results.section("trials").get("planned")
    of = f" of {planned} planned" if isinstance(planned, int) else ""
    so_far = f"{units.plural(len(results.trials), 'trial')}{of} so far"
    if status == "running":
        yield f"The sweep is still running: {so_far}. Everything on this page may change."
    elif status in ("failed", "interrupted"):
        yield f"The sweep ended early ({status}): {so_far}."


def _beside_baselines(results: Results, pick: Pick) -> Iterator[str]:
    """Whether the test data show that the pick beats the baselines at all."""
    for baseline in results.baselines.to_dict("records"):
        row = {str(key): value for key, value in baseline.items()}
        found = results.beside_baseline(pick.chosen, row, test_examples(pick.chosen, results))
        if found is None:
            continue
        name, size = row["name"], results.metric.difference_text(found.gain)
        if found.gain <= 0:
            yield f"On the test data the pick is no better than the baseline “{name}” (by {size})."
        elif found.told_apart is False:
            yield f"On the test data the pick cannot be told apart from the baseline “{name}”: {size} better."


def _noise(results: Results, pick: Pick) -> Iterator[str]:
    metric, evidence = results.metric, results.evidence["eval"][0]
    examples = evidence.examples if evidence else results.examples("eval")
    size = f"{units.plural(examples, 'example')}" if examples else "examples of unknown number"
    bounds = results.interval("eval", pick.trial_id, pick.chosen["quality"])
    if bounds is None or pick.tied is None:
        yield f"The evaluation data have {size}; how large a difference they can tell apart was not tested."
        return
    half = metric.difference_text((bounds[1] - bounds[0]) / 2)
    it = "it" if pick.ties is None else "the best"
    others = pick.candidates - 1 if pick.ties is None else len(pick.ties.trial_ids) - 1
    compared = " that could be compared" if others < pick.candidates - 1 else ""
    told = f" {_told_apart(pick.tied, others, _noun(pick), compared, it)}" if others else ""
    yield f"The evaluation data have {size}: the pick's figure there is good to about ± {half}.{told}"


def _told_apart(tied: int, others: int, noun: str, compared: str, it: str) -> str:
    """How many of the others may be as good."""
    if others == 1:
        return f"The other {noun}{compared} {'cannot' if tied else 'can'} be told apart from {it}."
    all_of_them = f"the other {units.plural(others, noun)}{compared}"
    if tied in (0, others):
        return f"{'None' if tied else 'Each'} of {all_of_them} can be told apart from {it}."
    return f"{tied:,} of {all_of_them} cannot be told apart from {it}."


def _selection(results: Results, pick: Pick) -> Iterator[str]:
    metric, chosen = results.metric, pick.chosen
    if chosen["status"] == "stopped":
        yield "The pick was stopped before its budget ended, because no trial trained to the end."
    evaluated = int(results.candidates["quality"].notna().sum())
    stopped = evaluated - pick.candidates
    cuts = f"{pick.cuts} of them cuts" if pick.cuts else ""
    halted = f"{stopped} of them stopped by the scheduler, on the same data" if stopped else ""
    by_scheduler = f" ({'; '.join(filter(None, (cuts, halted)))})" if cuts or halted else ""
    if evaluated < 2:
        yield "Only one trial could be compared, so nothing was chosen."
    elif math.isnan(chosen["test_quality"]):
        yield (
            f"The pick has no test figure. The evaluation data chose it among {evaluated:,}{by_scheduler}, "
            "and what is chosen for its figure looks better than it is."
        )
    else:
        yield (
            f"The evaluation data chose it among {evaluated:,}{by_scheduler}, "
            f"so its {metric.text(chosen['quality'])} there flatters; "
            f"the test figure, {metric.text(chosen['test_quality'])}, had no part in the choice."
        )
    if pick.ties is not None and pick.candidates > 1:
        yield _flattery(results, pick)


def _noun(pick: Pick) -> str:
    return "candidate" if pick.cuts else "trial"


def _flattery(results: Results, pick: Pick) -> str:
    """How much the best figure flatters, from the bootstrap."""
    evidence = results.evidence["eval"][0]
    assert evidence is not None and pick.ties is not None
    size = results.metric.difference_text(evidence.optimism(pick.ties.trial_ids))
    kept = " The choice of each trial's best step flatters too, and is not in it." * (results.metric.keep == "best")
    return f"The best figure on the evaluation data flatters by about {size}, for being the best (bootstrap).{kept}"


def _unaligned(results: Results) -> Iterator[str]:
    """What kept trials out of the comparisons example by example."""
    for part, (evidence, outcomes) in results.evidence.items():
        reasons = Counter(outcomes.left_out.values())
        # a run that kept no outcomes at all is no surprise
        if evidence is None and set(reasons) <= {NO_OUTCOMES}:
            continue
        if outcomes.left_out:
            listed = "; ".join(f"{reason} ({number})" for reason, number in reasons.most_common(4))
            size = units.plural(len(outcomes.left_out), "trial or cut" if results.has_cuts else "trial")
            yield f"{size} could not be compared with the others example by example on {part}: {listed}."
        if evidence is None and outcomes.trial_ids and not len(outcomes.example_ids):
            yield f"No example of {part} has an outcome of every trial, so nothing was compared there."
        elif outcomes.dropped:
            size = units.plural(outcomes.dropped, "example")
            yield f"{size} of {part} were left out of the comparisons, because not every trial has an outcome there."
    if (candidates := len(results.comparable())) > MOST_COMPARED:
        yield (
            f"Only the {MOST_COMPARED} leading of {candidates:,} candidates were compared with the best; the others "
            "were not tested."
        )


def _remeasured(results: Results) -> Iterator[str]:
    """Whether the cuts were evaluated where their trials reach other figures than they did in the sweep."""
    if not results.has_cuts:
        return
    content, name = RunFolder(results.path).analysis("rank_curves") or {}, results.metric.name
    for trial in content.get("trials", ()):
        before = finite(trial.get("recorded", {}).get(name))
        wholes = (one["metrics"] for one in trial.get("cuts", ()) if one.get("method") == "whole")
        now = next((finite(metrics.get(name)) for metrics in wholes), math.nan)
        if abs(now - before) > _SAME * abs(before):
            yield (
                f"The cuts of {trial['trial_id']} were evaluated on {content.get('device')} in {content.get('dtype')}, "
                f"where it reaches {results.metric.text(now)} uncut instead of {results.metric.text(before)}."
            )


def _losses(results: Results) -> Iterator[str]:
    total = len(results.trials)
    stopped, failed = len(results.with_status("stopped")), len(results.with_status("failed"))
    if stopped:
        yield (
            f"The scheduler stopped {stopped} of {units.plural(total, 'trial')} early; "
            "what they would have reached is not known, so they are listed apart and not ranked."
        )
    if failed:
        yield f"{failed} of {units.plural(total, 'trial')} failed; their reasons are listed below."
