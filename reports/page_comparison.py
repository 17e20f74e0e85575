"""The page that shows several runs beside each other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lora_sweep.store import RunFolder
from reports import units
from reports.comparison import Pair, RunComparison, Side, compare_runs
from reports.comparison_figure import get_fronts_info, plot_fronts
from reports.page_parts import device_facts, device_seconds_of_all
from reports.rendering import page_figure, render, write_page
from reports.sweep_difference import sweep_differences

_MOST_LEADING, _MOST_SENTENCES = 20, 10

Cells = tuple[str, ...]


def write_comparison(runs: Sequence[RunFolder], output: Path | None = None) -> Path:
    """Write the page that compares runs.

    Args:
        runs: two or more.
        output: where it goes; by default `comparison.html` beside the first run folder.

    Raises:
        ConfigError: a run stands twice, or the runs were after different metrics.
    """
    html = render_comparison(compare_runs(runs))
    return write_page(html, output or runs[0].path.parent / "comparison.html")


def render_comparison(comparison: RunComparison) -> str:
    """The page's HTML, complete in itself."""
    names = [side.name for side in comparison.sides]
    fronts = get_fronts_info(comparison)
    drawn = any(fronts.points.values())
    title = f"{comparison.metric.title} against trainable parameters"
    return render(
        "comparison.html.j2",
        {
            "names": names,
            "lead": f"{len(names)} runs · {comparison.metric.title}",
            "metric": comparison.metric,
            "verdict": _verdict(comparison),
            # one column a run: their names are long, and the facts many
            "runs": list(zip(RUN_FACTS, zip(*map(_run_facts, comparison.sides), strict=True), strict=True)),
            "pairs": [_pair_row(pair, comparison) for pair in comparison.pairs],
            "pair_note": _pair_note(comparison),
            "doubts": list(_doubts(comparison)),
            "figures": {"fronts": page_figure("fronts", title, _caption(comparison), plot_fronts(fronts))}
            if drawn
            else {},
            "leading": list(_leading_rows(comparison)),
            "leading_apart": comparison.eval_differs,
            "tied": comparison.ties is not None,
            "baselines": list(_baseline_rows(comparison)),
            "data": list(_data_rows(comparison)),
            "differences": sweep_differences([side.results for side in comparison.sides]),
        },
    )


RUN_FACTS = (
    "Model", "Status", "Complete, stopped, failed", "Pick", "Configuration", "Eval", "Test", "95 % on test",
    "Parameters", "Device time of all trials", "Wall time",
)  # fmt: skip


def _caption(comparison: RunComparison) -> str:
    text = "Complete trials only; each run has a colour and a symbol."
    if comparison.eval_differs:
        return (
            f"{text} The runs had different evaluation data: heights are not comparable, and there is no common front."
        )
    text += " Nothing measured on the line is beaten on both quality and size, whichever run it comes from"
    return text + (", if all had the same evaluation data." if comparison.agreement("eval") == "unknown" else ".")


def _run_facts(side: Side) -> Cells:
    """A run's values of `RUN_FACTS`."""
    results, choice = side.results, side.pick
    counts = [str(len(results.with_status(status))) for status in ("complete", "stopped", "failed")]
    seconds = device_seconds_of_all(results) if len(results.trials) else math.nan
    wall = results.info.get("wall_seconds")
    head = (
        str(results.section("model").get("name") or units.MISSING),
        str(results.info.get("status") or units.MISSING),
    )
    tail = (units.duration(seconds), units.duration(wall if isinstance(wall, (int, float)) else None))
    if choice is None:
        return (*head, ", ".join(counts), *[units.MISSING] * 6, *tail)
    texts = side.texts[choice.trial_id]
    settings = (("rank ", "rank"), ("alpha ", "alpha"), ("", "targets"), ("rate ", "learning_rate"))
    made = ", ".join(word + texts[name] for word, name in settings if texts[name] != units.MISSING) or units.MISSING
    figures = (texts[name] for name in ("quality", "test", "test_interval", "parameters"))
    return (*head, ", ".join(counts), choice.trial_id, made, *figures, *tail)


def _pair_row(pair: Pair, comparison: RunComparison) -> Cells:
    metric, found = comparison.metric, pair.found
    ahead = pair.first if found.gain >= 0 else pair.second
    gain = "equal" if found.gain == 0 else f"{ahead} by {metric.difference_text(found.gain)}"
    bounds = units.MISSING
    if found.bounds is not None:
        low, high = found.bounds
        bounds = metric.gain_text((low, high) if found.gain >= 0 else (-high, -low))
    how = "example by example" if found.paired else "as if on examples of their own"
    part = "test" if pair.part == "test" else "evaluation, which chose"
    return f"{pair.first} and {pair.second}", gain, bounds, _chance(pair.p_value), part, how


def _verdict(comparison: RunComparison) -> list[str]:
    """What the pairs say, a sentence each."""
    if not comparison.pairs:
        return ["The picks cannot be compared: the runs had different data, or one has no pick."]
    sentences = [_said(pair, comparison) for pair in comparison.pairs]
    more = len(sentences) - _MOST_SENTENCES
    return [*sentences[:_MOST_SENTENCES], *([f"{more} more pairs stand in the table."] if more > 0 else [])]


def _said(pair: Pair, comparison: RunComparison) -> str:
    size = comparison.metric.difference_text(pair.found.gain)
    on = "on the test data" if pair.part == "test" else "on the evaluation data"
    ahead, behind = (pair.first, pair.second) if pair.found.gain >= 0 else (pair.second, pair.first)
    if not pair.same_data:
        on += ", if both had the same (no hash is on record)"
    if pair.p_value is None:
        chance = "whether that is more than chance was not tested"
        return f"The pick of {ahead} is {size} ahead of that of {behind} {on}; {chance}."
    chance = f"p {_chance(pair.p_value)}" if pair.p_value < 0.001 else f"p = {_chance(pair.p_value)}"
    if pair.p_value < 0.05:
        return f"The pick of {ahead} is better than that of {behind} {on}, by {size} ({chance})."
    if pair.found.gain == 0:
        return f"The picks of {ahead} and {behind} are equal {on}."
    return f"The picks of {ahead} and {behind} cannot be told apart {on}: {size} ({chance})."


def _chance(p_value: float | None) -> str:
    return units.MISSING if p_value is None else "< 0.001" if p_value < 0.001 else f"{p_value:.2g}"


def _pair_note(comparison: RunComparison) -> str:
    text = "Each interval holds by itself, at 95 %."
    if len(comparison.pairs) > 1:
        text += f" P-values are adjusted for {len(comparison.pairs)} comparisons (Holm)."
    if any(pair.part == "eval" for pair in comparison.pairs):
        text += " The evaluation data chose the picks, so that differences there flatter whichever had more trials."
    return text


def _doubts(comparison: RunComparison) -> Iterator[str]:
    for part, name in (("eval", "evaluation"), ("test", "test")):
        agreement = comparison.agreement(part)
        if agreement == "different":
            yield f"The runs did not all have the same {name} data: their figures there are not comparable."
        elif agreement == "unknown" and any(_has(side, part) for side in comparison.sides):
            yield (
                f"Whether all runs had the same {name} data is not known, because not all have a hash on record. "
                "Comparisons example by example rest on the examples' names."
            )
    keeps = {side.name: side.results.metric.keep or "unknown" for side in comparison.sides}
    if len(set(keeps.values())) > 1:
        said = ", ".join(f"{keep} in {name}" for name, keep in keeps.items())
        yield f"The runs kept different evaluations of a trial ({said}); the best of several flatters."
    devices = {side.name: {row[1] for row in device_facts(side.results)} for side in comparison.sides}
    if len({frozenset(one) for one in devices.values()}) > 1:
        yield "The runs had different devices, or devices are not on record: their times are not comparable."
    for side in comparison.sides:
        if side.results.section("imported"):
            yield f"{side.name} was imported from a table; its own report says what that lacks."
        if side.pick is not None and side.pick.chosen["status"] == "stopped":
            yield f"The pick of {side.name} was stopped before its budget ended."
    yield (
        "The comparison is of the adapters that were picked. Another seed, or another search of the same size, may "
        "order the runs differently."
    )


def _has(side: Side, part: str) -> bool:
    return bool(side.results.section("data", "parts", part)) or part == "eval"


def _leading_rows(comparison: RunComparison) -> Iterator[tuple[bool, Cells]]:
    """Whether it is a pick, and place, run, trial, figures and configuration of the best trials of all runs.

    Where the evaluation data differ, each run has places of its own.
    """
    ties = comparison.ties
    members = set(ties.member_ids) if ties else set()
    compared = set(ties.trial_ids) if ties else set()
    names = ("quality", "interval", "test", "rank", "alpha", "targets", "learning_rate", "parameters", "device_time")
    texts = {side.name: side.texts for side in comparison.sides}
    picks = {side.key(side.pick.trial_id) for side in comparison.sides if side.pick}
    for place, row in _placed(comparison):
        own = texts[row["run"]][row["trial_id"]]
        tie = "tie" if row["key"] in members else "" if row["key"] in compared else units.MISSING
        yield row["key"] in picks, (str(place), row["run"], str(row["trial_id"]), tie, *(own[name] for name in names))


def _placed(comparison: RunComparison) -> Iterator[tuple[int, dict[str, Any]]]:
    rows, most = comparison.leading, _MOST_LEADING
    if comparison.eval_differs:
        most = max(3, most // len(comparison.sides))
        groups = [rows[rows["run"] == side.name] for side in comparison.sides]
    else:
        groups = [rows]
    for group in groups:
        for place, row in enumerate(group.head(most).to_dict("records"), start=1):
            yield place, {str(name): value for name, value in row.items()}


def _baseline_rows(comparison: RunComparison) -> Iterator[Cells]:
    metric = comparison.metric
    for side in comparison.sides:
        for row in side.results.baselines.to_dict("records"):
            size = units.count(row["trainable_parameters"])
            yield side.name, row["name"], metric.text(row["quality"]), metric.text(row["test_quality"]), size


def _data_rows(comparison: RunComparison) -> Iterator[tuple[str, str, Cells]]:
    """Part, whether the runs agree, and each run's examples and hash."""
    for part in ("train", "eval", "test"):
        sections = [side.results.section("data", "parts", part) for side in comparison.sides]
        if any(sections):
            cells = []
            for side in comparison.sides:
                examples, own = side.results.examples(part), side.results.section("data", "parts", part)
                known = (f"{examples:,}" if examples else "", str(own.get("sha256") or "")[:12])
                cells.append(", ".join(one for one in known if one) or units.MISSING)
            yield part, comparison.agreement(part), tuple(cells)
