"""The efficiency-quality table: every trial and baseline with what it reached and what it cost.

Complete trials and baselines stand first, best first, and only complete trials are numbered; those that cannot be told
from the best are marked as tied. Trials that the scheduler stopped are censored (nobody knows what they would have
reached): they follow apart, with the step they reached. Cost is the device time attributed to the trial, or what it
would have taken alone, never the wall time of a pack.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from lora_sweep.store import RunFolder
from reports import units
from reports.candidates import describe
from reports.frame import NO_TARGETS, UNKNOWN_TARGETS, bias_text, row_dicts, whole
from reports.results import Results, read_results, sort_by_quality

Kind = Literal["baseline", "complete", "stopped"]

SUMMARY_COLUMNS = (
    "#", "trial", "eval", "95 %", "tie", "test", "rank", "alpha", "targets", "rate", "parameters", "device time"
)  # fmt: skip
"""The headings that go with `TableRow.summary`."""


@dataclass(frozen=True)
class TableRow:
    """One line of the table. Numbers that are not known are NaN; the texts write them as a dash.

    Attributes:
        kind: baseline, complete or stopped.
        name: trial id, or the baseline's name.
        place: 1 for the best complete trial; None for baselines and stopped trials.
        quality, test_quality: the run's metric on the evaluation and the test data.
        bounds, test_bounds: their 95 % intervals over examples, on test for all finalists at once; None where unknown.
        tied: whether it cannot be told from the best; None where that was not tested.
        share: trainable parameters over the base's.
        device_seconds: the engine's time attributed to it.
        solo_seconds: its time alone on the device, with `solo_source` (`probed` or `modelled`).
        reached_step, steps: the last step it trained, of the full budget; 0 for baselines and where unknown.
        kept_step: the step of the evaluation whose figures and adapter these are; 0 as before.
        note: what else a reader must know.
        texts: the same for people, by column: quality, interval, tie, test, test_interval, rank, alpha, dropout, bias,
            targets, learning_rate, batch_size, parameters, share, adapter, device_time, solo_time, kept_step, step.
    """

    kind: Kind
    name: str
    place: int | None
    quality: float
    test_quality: float
    rank: float
    alpha: float
    learning_rate: float
    trainable_parameters: float
    share: float
    adapter_bytes: float
    device_seconds: float
    solo_seconds: float
    solo_source: str
    kept_step: int
    reached_step: int
    steps: int
    note: str
    texts: Mapping[str, str]
    bounds: tuple[float, float] | None = None
    test_bounds: tuple[float, float] | None = None
    tied: bool | None = None

    @property
    def summary(self) -> tuple[str, ...]:
        """The texts for `SUMMARY_COLUMNS`."""
        names = (
            "quality", "interval", "tie", "test", "rank", "alpha", "targets", "learning_rate", "parameters",
            "device_time",
        )  # fmt: skip
        place = "" if self.place is None else str(self.place)
        return (place, self.name, *(self.texts[name] for name in names))


def table_rows(run: RunFolder | Results, cut: str | None = None) -> list[TableRow]:
    """All lines: complete trials and baselines by quality, then stopped trials by quality. Failed trials have none.

    Args:
        run: the run folder, or what was read from it.
        cut: a cut adapter that is to stand among the complete trials, without a number.
    """
    results = read_results(run)
    complete = results.ranked("complete").assign(kind="complete")
    complete["place"] = range(1, len(complete) + 1)
    baselines = results.baselines.assign(kind="baseline", trial_id=results.baselines["name"])
    first = [_row(one, results) for frame in (complete, baselines) for one in row_dicts(frame)]
    stopped = sort_by_quality(results.with_status("stopped"), results.metric).assign(kind="stopped")
    cuts = results.candidates[results.candidates["kind"] == "cut"]
    first += [_candidate_row(one, results) for one in row_dicts(cuts[cuts["trial_id"] == cut])]
    return _by_quality(first, results) + [_row(one, results) for one in row_dicts(stopped)]


def candidate_rows(run: RunFolder | Results) -> list[TableRow]:
    """A line for every trial that did not fail and for every cut, without numbers, in the order of the run."""
    results = read_results(run)
    return [_candidate_row(one, results) for one in row_dicts(results.candidates)]


def _candidate_row(row: dict[str, Any], results: Results) -> TableRow:
    found = _row(row | {"kind": row["status"]}, results)
    if row["kind"] != "cut":
        return found
    tied = None if results.tied_candidates is None else row["trial_id"] in results.tied_candidates
    texts = {**found.texts, "rank": row["rank_text"], "tie": _tie(tied)}
    return replace(found, tied=tied, texts=texts, note=describe(row))


def summary_table(run: RunFolder | Results, top: int = 5) -> list[TableRow]:
    """What fits a terminal: the best `top` complete trials and all baselines, best first.

    Stopped trials stand in only when no trial is complete.
    """
    rows = table_rows(run)
    wanted = "complete" if any(row.kind == "complete" for row in rows) else "stopped"
    names = [row.name for row in rows if row.kind == wanted][:top]
    return [row for row in rows if row.kind == "baseline" or (row.kind == wanted and row.name in names)]


def _by_quality(rows: list[TableRow], results: Results) -> list[TableRow]:
    sign = -1 if results.metric.mode == "max" else 1

    def key(row: TableRow) -> tuple[bool, float]:
        unknown = math.isnan(row.quality)
        return unknown, 0.0 if unknown else sign * row.quality

    return sorted(rows, key=key)


def _row(row: Mapping[str, Any], results: Results) -> TableRow:
    place, kind = row.get("place"), row["kind"]
    base = _number(results.section("model"), "parameters")
    share = _number(row, "share")
    if math.isnan(share) and base > 0:
        share = _number(row, "trainable_parameters") / base
    values: dict[str, Any] = {
        name: _number(row, name) for name in ("quality", "test_quality", "device_seconds", "solo_seconds")
    }
    values |= {name: _number(row, name) for name in ("trainable_parameters", "adapter_bytes", "learning_rate")}
    adapted = row.get("target_label") != NO_TARGETS
    values |= {name: _number(row, name) if adapted else math.nan for name in ("rank", "alpha")}
    source = row.get("solo_source")
    name = str(row["trial_id"])
    marks: dict[str, Any] = {
        "bounds": results.interval("eval", name, values["quality"]),
        "test_bounds": results.interval("test", name, values["test_quality"], _count(row, "test_examples")),
        "tied": results.tied_with_best(name) if kind == "complete" else None,
    }
    return TableRow(
        kind=kind,
        name=name,
        place=None if place is None else int(place),
        share=share,
        solo_source=source if isinstance(source, str) else "",
        kept_step=whole(row.get("step")) or 0,
        reached_step=whole(row.get("reached_step")) or 0,
        steps=whole(row.get("steps")) or 0,
        note=_note(row),
        texts=_texts(dict(row) | values | marks | {"share": share}, results),
        **values,
        **marks,
    )


def _texts(row: Mapping[str, Any], results: Results) -> dict[str, str]:
    metric, rank = results.metric, row["rank"]
    solo = units.duration(row["solo_seconds"])
    source = row.get("solo_source")
    return {
        "quality": metric.text(row["quality"]),
        "interval": metric.interval_text(row["bounds"]) if row["bounds"] else units.MISSING,
        "tie": _tie(row["tied"]),
        "test": metric.text(row["test_quality"]),
        "test_interval": metric.interval_text(row["test_bounds"]) if row["test_bounds"] else units.MISSING,
        "rank": units.MISSING if math.isnan(rank) else str(int(rank)),
        "alpha": units.number(row["alpha"]) + _in_ranks(row["alpha"], rank),
        "dropout": units.number(_number(row, "dropout"), 2),
        "bias": bias_text(row.get("bias")),
        "targets": _targets(row.get("target_label")),
        "learning_rate": units.number(row["learning_rate"], 2),
        "batch_size": units.number(_number(row, "batch_size")),
        "parameters": units.count(row["trainable_parameters"]),
        "share": units.share(row["share"]),
        "adapter": units.size(row["adapter_bytes"] or None),
        "device_time": units.duration(row["device_seconds"] or None),
        "solo_time": f"{solo} ({source})" if isinstance(source, str) and solo != units.MISSING else solo,
        "kept_step": units.number(_number(row, "step") or math.nan, 12),
        "step": _step(whole(row.get("reached_step")), whole(row.get("steps"))),
    }


def _tie(tied: bool | None) -> str:
    return "tie" if tied else "" if tied is False else units.MISSING


def _targets(label: object) -> str:
    return label if isinstance(label, str) and label != UNKNOWN_TARGETS else units.MISSING


def _in_ranks(alpha: float, rank: float) -> str:
    return f" ({times_rank(alpha, rank)})" if rank > 0 and alpha > 0 else ""


def _step(reached: int | None, steps: int | None) -> str:
    if reached is None:
        return units.MISSING
    return f"{reached} of {steps}" if steps else str(reached)


def times_rank(alpha: float, rank: float) -> str:
    """Alpha as a multiple of the rank, the way people say it: `2r`, `r`, `0.5r`."""
    times = alpha / rank
    return "r" if times == 1 else f"{units.number(times)}r"


def _note(row: Mapping[str, Any]) -> str:
    if row["kind"] == "stopped":
        step = _step(whole(row["reached_step"]), whole(row["steps"]))
        return "stopped by the scheduler" + ("" if step == units.MISSING else f" after step {step}")
    return str(row.get("note", ""))


def _count(row: Mapping[str, Any], name: str) -> int | None:
    value = _number(row, name)
    return None if math.isnan(value) else int(value)


def _number(row: Mapping[str, Any], name: str) -> float:
    value = row.get(name)
    return float(value) if isinstance(value, (int, float)) else math.nan
