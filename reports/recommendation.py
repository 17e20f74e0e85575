"""Recommended ranks in words and as a table, with what their validation says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from lora_sweep.store import RunFolder
from reports import units
from reports.csv_files import write_csv
from reports.results import Results, read_results
from reports.statistics.effects import Effect
from reports.validation import Validation, read_validation

NOT_VALIDATED = "Not validated: use uniform ranks unless --validate says better."
NAMES = {"uniform": "uniform ranks", "permuted": "the same ranks dealt at random", "svd": "a wider trial, cut"}


def read_recommendation(run: RunFolder | Results) -> tuple[Mapping[str, Any], Validation | None] | None:
    """The content of RUN/analysis/recommendation.json and the validation of those ranks; None without the first."""
    folder = RunFolder(run.path)
    content = folder.analysis("recommendation")
    return None if content is None else (content, read_validation(folder, content))


def recommendation_sentences(content: Mapping[str, Any], validation: Validation | None) -> list[str]:
    """The verdict on the ranks, what they are, whether the layers differ, and the figures behind the verdict."""
    verdict, *figures = validation_sentences(validation) if validation else [NOT_VALIDATED]
    return [verdict, _what(content), _difference(content), *figures]


def validation_sentences(validation: Validation) -> list[str]:
    """The verdict with the figures that it follows from."""
    sentences = [_verdict(validation), _equal(validation)]
    sentences += [_effect(validation, kind, effect) for kind, effect in validation.effects.items()]
    if (power := _power(validation)) is not None:
        sentences.append(power)
    if any(arm.failed for arm in validation.arms):
        lost = ", ".join(f"{arm.failed} of {arm.name}" for arm in validation.arms if arm.failed)
        sentences.append(f"Trials that failed: {lost}. Seeds that an arm lost are left out of its comparisons.")
    return sentences


def effect_text(validation: Validation, effect: Effect) -> str:
    """`+0.21 (95 % interval +0.19 to +0.23)`: positive is better, whatever the metric's direction."""
    metric = validation.metric
    mean = f"{100 * effect.mean:+.1f} points" if metric.is_proportion else f"{effect.mean:+.2g}"
    return f"{mean} (95 % interval {metric.gain_text(effect.bounds)})"


def write_recommendation_table(run: RunFolder | Results) -> list[Path]:
    """Write RUN/tables/recommendation.csv, a row for each layer, where there is a recommendation.

    Returns:
        The file, if any.
    """
    results = read_results(run)
    found = read_recommendation(results)
    if found is None:
        return []
    rows = [{key: value for key, value in row.items() if not isinstance(value, list)} for row in found[0]["layers"]]
    return [write_csv(pd.DataFrame(rows), results.path / "tables" / "recommendation.csv")]


def _what(content: Mapping[str, Any]) -> str:
    budget, ranks = content["budget"], [row["rank"] for row in content["layers"]]
    kept = [rank for rank in ranks if rank]
    spread = f"ranks from {min(kept)} to {max(kept)}" if min(kept) < max(kept) else f"rank {kept[0]}"
    gone = len(ranks) - len(kept)
    left_out = f", {gone} of {len(ranks)} layers left out" if gone else ""
    asked = "" if budget["asked"] == budget["parameters"] else f" (of {budget['asked']:,} asked for)"
    saved = f", {units.share(content['saved'] / budget['parameters'])} fewer" if content["saved"] else ""
    return (
        f"By trial {content['trial_id']}, under {budget['parameters']:,} LoRA parameters{asked}, what uniform rank "
        f"{budget['uniform_rank']} takes: {spread}{left_out}; {content['parameters']:,} parameters{saved}. Every layer "
        "keeps the trial's alpha / rank."
    )


def _difference(content: Mapping[str, Any]) -> str:
    check = content["check"]
    low, high = (f"{100 * bound:+.0f}" for bound in check["bounds"])
    figures = (
        f"placed by one half of the {content['examples']} hold-out examples, ranks gain {100 * check['gain']:+.0f} % "
        f"against uniform ones on the other half, by the rule's own measure (95 % interval {low} to {high} %)"
    )
    if check["differs"]:
        return f"The layers differ by more than the noise of the examples: {figures}."
    return f"The layers do not differ by more than the noise of the examples, so use uniform ranks: {figures}."


def _verdict(validation: Validation) -> str:
    uniform = validation.effects["uniform"]
    margin = _amount(validation, validation.margin)
    if validation.verdict == "better":
        small = uniform is not None and uniform.bounds[1] < validation.margin
        more = f" The gain is below the margin of {margin} all the same." if small else ""
        return (
            "Verdict: better. The recommended ranks beat uniform ranks and the same ranks dealt at random: use them."
            + more
        )
    if validation.verdict == "equivalent":
        return f"Verdict: equivalent within {margin}. Use uniform ranks."
    return f"Verdict: inconclusive. Use uniform ranks. {_reason(validation)}"


def _reason(validation: Validation) -> str:
    uniform, permuted = validation.effects["uniform"], validation.effects["permuted"]
    if not validation.complete:
        return "The validation is not finished."
    if abs(validation.difference) > 0.02:
        return "The arms do not have equal LoRA parameters."
    if uniform is None:
        return "Fewer than two seeds of both arms are complete."
    if uniform.bounds[1] < 0:
        return "The recommended ranks are worse than uniform ones."
    if uniform.bounds[0] <= 0:
        return "The interval against uniform ranks holds 0."
    if permuted is None:
        return "The ranks could not be compared with random placements of them."
    if permuted.bounds[0] <= 0:
        return "Unequal ranks beat uniform ones, but where they stand was not shown to matter."
    return "Some of the recommended ranks' trials failed."


def _equal(validation: Validation) -> str:
    uniform, ours = validation.arms[:2]
    difference = f"{100 * validation.difference:+.2g} %" if validation.difference else "equal"
    return f"LoRA parameters: {ours.parameters:,} recommended, {uniform.parameters:,} uniform ({difference})."


def _effect(validation: Validation, kind: str, effect: Effect | None) -> str:
    name = NAMES[kind]
    if effect is None:
        return f"Against {name}: not compared."
    seeds = units.plural(len(effect.gains), "seed")
    return (
        f"Against {name}: {effect_text(validation, effect)}, {seeds}, {validation.examples:,} test examples; positive "
        "is better."
    )


def _power(validation: Validation) -> str | None:
    effect = validation.effects["uniform"]
    if effect is None:
        return None
    return (
        f"The interval against uniform ranks is {_amount(validation, effect.half_width)} wide to each side; with so "
        f"many seeds a true difference of {_amount(validation, effect.detectable)} shows with 80 % probability."
    )


def _amount(validation: Validation, size: float) -> str:
    return validation.metric.difference_text(size)


def rank_lines(content: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """A table of ranks: a heading, then a line for each block, or for each layer where there are no blocks."""
    rows = content["layers"]
    if any(row["depth"] is None for row in rows):
        yield "layer", "uniform", "recommended"
        yield from ((row["name"], str(row["uniform_rank"]), str(row["rank"])) for row in rows)
        return
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    found = {(row["depth"], row["kind"]): str(row["rank"]) for row in rows}
    yield "block", *kinds
    for depth in sorted({row["depth"] for row in rows}):
        yield str(depth), *(found.get((depth, kind), "") for kind in kinds)
