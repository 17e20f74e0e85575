"""What to doubt about a run: each sentence names the measured fact that it rests on."""

from __future__ import annotations

import math
from collections.abc import Iterator

from reports import units
from reports.intervals import compare, interval
from reports.pick import Pick
from reports.pick_text import seed_sentence, test_examples
from reports.results import Results


def doubts(results: Results, pick: Pick | None) -> list[str]:
    """The reservations that a reader must know before using the pick, most weighty first."""
    found = [*_unfinished(results)]
    if pick is not None:
        found += [*_beside_baselines(results, pick), *_noise(results, pick), *_selection(results, pick)]
    if len(results.trials):
        found += [seed_sentence(results), *_losses(results)]
    notes = results.section("data").get("notes")
    found += [str(note) for note in notes] if isinstance(notes, list) else []
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
    value, examples = pick.chosen["test_quality"], test_examples(pick.chosen, results)
    if math.isnan(value):
        return
    for name, other in zip(results.baselines["name"], results.baselines["test_quality"], strict=True):
        if math.isnan(other):
            continue
        found = compare(results.metric, value, other, examples)
        size = results.metric.difference_text(found.gain)
        if found.gain <= 0:
            yield f"On the test data the pick is no better than the baseline “{name}” (by {size})."
        elif found.told_apart is False:
            yield f"On the test data the pick cannot be told apart from the baseline “{name}”: {size} better."


def _noise(results: Results, pick: Pick) -> Iterator[str]:
    metric, examples = results.metric, results.examples("eval")
    size = f"{units.plural(examples, 'example')}" if examples else "examples of unknown number"
    bounds = interval(metric, pick.chosen["quality"], examples)
    if bounds is None or pick.tied is None:
        yield f"The evaluation data have {size}; how large a difference they can tell apart was not tested."
        return
    half = metric.difference_text((bounds[1] - bounds[0]) / 2)
    yield f"The evaluation data have {size}: the pick's figure there is good to about ± {half}." + (
        f" {pick.tied} of the other {units.plural(pick.candidates - 1, 'trial')} cannot be told apart from it."
        if pick.candidates > 1
        else ""
    )


def _selection(results: Results, pick: Pick) -> Iterator[str]:
    metric, chosen = results.metric, pick.chosen
    if chosen["status"] == "stopped":
        yield "The pick was stopped before its budget ended, because no trial trained to the end."
    evaluated = int(results.with_status("complete", "stopped")["quality"].notna().sum())
    stopped = evaluated - pick.candidates
    by_scheduler = f" ({stopped} of them stopped by the scheduler, on the same data)" if stopped else ""
    if evaluated < 2:
        yield "Only one trial could be compared, so nothing was chosen."
    elif math.isnan(chosen["test_quality"]):
        yield (
            f"The pick has no test figure. It is the best of {evaluated} on the evaluation data{by_scheduler}, "
            "and the best of many looks better than it is."
        )
    else:
        yield (
            f"The evaluation data chose the best of {evaluated}{by_scheduler}, so its "
            f"{metric.text(chosen['quality'])} there flatters; "
            f"the test figure, {metric.text(chosen['test_quality'])}, had no part in the choice."
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
