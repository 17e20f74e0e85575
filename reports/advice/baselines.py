"""A pick that is no better than what needs no LoRA."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lora_sweep.errors import RunFolderError
from reports import units
from reports.advice.domains import has_room, widened
from reports.advice.piece import Advice
from reports.advice.situation import Situation
from reports.pick import pick
from reports.pick_text import test_examples
from search_spaces.domains import Choice

_WIDEST = "all-linear"


def no_better_than_baseline(situation: Situation) -> Iterator[Advice]:
    """On the test data the pick cannot be told from the strongest baseline, or is worse."""
    results = situation.results
    try:
        chosen = pick(results).chosen
    except RunFolderError:
        return
    known = results.baselines[results.baselines["test_quality"].notna()]
    if not len(known):
        return
    ordered = known.sort_values("test_quality", ascending=results.metric.mode == "min", kind="stable")
    row: dict[str, Any] = {str(key): value for key, value in ordered.iloc[0].items()}
    examples = test_examples(chosen, results)
    found = results.beside_baseline(chosen, row, examples)
    if found is None or (found.gain > 0 and found.told_apart is not False):
        return
    metric = results.metric
    how = "better" if found.gain > 0 else "worse"
    size = "equal to" if found.gain == 0 else f"{metric.difference_text(found.gain)} {how} than"
    bounds = f" (95 % interval {metric.gain_text(found.bounds)})" if found.bounds else ""
    on = f" on {units.plural(examples, 'test example')}" if examples else " on the test data"
    yield Advice(
        title="Give LoRA more room, or do without it",
        fact=(
            f"The pick, {chosen['trial_id']}, reached {metric.text(chosen['test_quality'])}{on}, {size} the baseline "
            f"“{row['name']}” with {metric.text(row['test_quality'])}{bounds}."
        ),
        why=(
            "LoRA gained nothing that the test data can see. Wider targets and higher ranks give it more room; if that "
            "changes nothing, the baseline is the cheaper choice."
        ),
        change=_more_room(situation),
    )


def _more_room(situation: Situation) -> dict[str, dict[str, Any]]:
    space: dict[str, Any] = {}
    targets, rank = situation.domain("target_modules"), situation.domain("rank")
    if isinstance(targets, Choice) and _WIDEST not in {option.value for option in targets.options}:
        sets = {option.label: _plain(option.value) for option in targets.options}
        space["target_modules"] = sets | {_WIDEST: _WIDEST}
    if rank is not None and has_room("rank", rank, "upper"):
        space["rank"] = widened("rank", rank, "upper")
    return {"space": space} if space else {}


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
