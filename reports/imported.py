"""What a run that was imported from a table cannot tell, as sentences: each names what the table lacked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from reports import units
from reports.results import Results

_NAMES = {
    "rank": "rank", "alpha": "alpha", "dropout": "dropout", "target_modules": "target modules",
    "learning_rate": "learning rate", "batch_size": "batch size", "trainable_parameters": "trainable parameters",
    "device_seconds": "device time", "train_loss": "training loss", "step": "step", "steps": "steps of the budget",
    "seed": "seed",
}  # fmt: skip
_SETTINGS = ("rank", "alpha", "dropout", "target_modules", "learning_rate", "batch_size")


def import_doubts(results: Results) -> Iterator[str]:
    """What to know of an imported run, most weighty first; nothing for other runs."""
    said = results.section("imported")
    if not said:
        return
    missing = [name for name in said.get("missing", ()) if isinstance(name, str)]
    yield _source(said, results)
    yield from _outcomes(said, results)
    yield from _settings(missing)
    if "trainable_parameters" in missing:
        yield (
            "It has no trainable parameters, so there is no front over parameters, and the pick is not the cheapest "
            "of equals but the best figure."
        )
    if "device_seconds" in missing:
        yield _no_device_time(said)
    yield from _statuses(said, results)
    yield from _gaps(said)


def facts_of_import(results: Results) -> list[tuple[str, str]]:
    """Where an imported run comes from and what its columns were taken for; empty for other runs."""
    said = results.section("imported")
    taken = said.get("columns")
    columns = ", ".join(f"{key}: {column}" for key, column in taken.items()) if isinstance(taken, Mapping) else ""
    unused = [str(name) for name in said.get("unused", ())]
    facts = [
        ("Imported from", str(said.get("table", ""))),
        ("Imported at", str(said.get("at", ""))),
        ("Table SHA-256", str(said.get("sha256", ""))),
        ("Outcomes", str(said.get("outcomes") or "")),
        ("Columns", columns),
        ("Not used", ", ".join(unused)),
    ]
    return [(name, value) for name, value in facts if value]


def _source(said: Mapping[str, Any], results: Results) -> str:
    table = PurePath(str(said.get("table", ""))).name
    rows = units.plural(int(said.get("rows", 0)), "row")
    trials = units.plural(len(results.trials), "trial")
    names = "" if said.get("has_trial_ids") else " It has no column of trial ids, so trials are named by their rows."
    return (
        f"This run was imported from {table} ({rows}, {trials}). Nothing was measured again, and what the table does "
        f"not hold is unknown here.{names}"
    )


def _outcomes(said: Mapping[str, Any], results: Results) -> Iterator[str]:
    if said.get("outcomes"):
        return
    if not results.metric.is_proportion:
        yield (
            "It came without outcomes on examples, so there are no intervals, and which trials cannot be told from the "
            "best is not known."
        )
    elif results.examples("eval") is None:
        yield (
            "It came without outcomes on examples and without the number of examples, so there are no intervals, and "
            "which trials cannot be told from the best is not known."
        )
    else:
        yield (
            "It came without outcomes on examples, so two trials are compared by their figures alone, as if each had "
            "been measured on examples of its own; that overlooks differences."
        )


def _settings(missing: Sequence[str]) -> Iterator[str]:
    lacking = [_NAMES[name] for name in _SETTINGS if name in missing]
    if lacking:
        over = "it" if len(lacking) == 1 else "them"
        yield f"It has no {_listed(lacking)}; figures and comparisons over {over} are absent."


def _no_device_time(said: Mapping[str, Any]) -> str:
    text = "It has no device time, so what the trials cost in time is not known."
    taken = said.get("columns")
    wall = taken.get("wall_seconds") if isinstance(taken, Mapping) else None
    if wall is None:
        return text
    return f"{text} Its column {wall} is wall time, which counts as a cost only where a trial had its device to itself."


def _statuses(said: Mapping[str, Any], results: Results) -> Iterator[str]:
    if said.get("has_status"):
        return
    reached = results.with_status("complete")["reached_step"].dropna()
    text = "It does not say how trials ended: every trial that has a figure"
    text += " and was not seen to fall short of its steps counts as complete"
    if reached.nunique() > 1:
        low, high = int(reached.min()), int(reached.max())
        text += f", though they reached from {low:,} to {high:,} steps and some may have been stopped"
        text += "; where they had one budget, `budget: STEPS` in the map tells the two apart"
    yield text + "."


def _gaps(said: Mapping[str, Any]) -> Iterator[str]:
    incomplete = said.get("incomplete")
    if isinstance(incomplete, Mapping) and incomplete:
        listed = _listed([f"{_NAMES.get(str(name), str(name))} ({number:,})" for name, number in incomplete.items()])
        yield f"Some trials lack what others have: {listed}."
    lost = said.get("not_finite")
    if isinstance(lost, Mapping):
        for metric, number in lost.items():
            yield f"{units.plural(int(number), 'value')} of {metric} are infinite and count as not measured."
    if said.get("rows_left_out"):
        yield f"{units.plural(int(said['rows_left_out']), 'row')} were left out, because their trials have not ended."


def _listed(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
