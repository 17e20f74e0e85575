"""Where enough is enough: what each rank, set of target modules and alpha / rank reached among complete trials."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from lora_sweep.store import RunFolder
from reports import units
from reports.frame import NO_TARGETS
from reports.results import Results, read_results, sort_by_quality
from reports.searched import searched_trials

_MOST_ROWS = 12
_GROUPS = (("rank", "Rank"), ("target_label", "Target modules"), ("alpha_over_rank", "Alpha / rank"))
_CALLED = {"rank": "rank", "target_label": "set of target modules", "alpha_over_rank": "alpha / rank"}


@dataclass(frozen=True)
class SpotRow:
    """The complete trials that share one value.

    Attributes:
        value: the value as a text.
        trials: how many there are, and how many of all that started with it (`started`, failed ones included).
        best_id: the best of them; `best` is its quality and `bounds` its 95 % interval over examples, where known.
        median: of their qualities.
        tied: how many cannot be told from the best of all; None where that was not tested.
        parameters: the fewest trainable parameters among them.
    """

    value: str
    trials: int
    started: int
    best_id: str
    best: float
    bounds: tuple[float, float] | None
    median: float
    tied: int | None
    parameters: float


@dataclass(frozen=True)
class SpotTable:
    """One hyperparameter, its rows by rising value (target modules by rising parameters), and what follows."""

    name: str
    title: str
    rows: tuple[SpotRow, ...]
    left_out: int
    sentence: str


def get_sweet_spots(run: RunFolder | Results) -> tuple[SpotTable, ...]:
    """A table for each of rank, target modules and alpha / rank that has at least two values among complete trials."""
    results = read_results(run)
    trials = searched_trials(results)
    trials = trials[trials["target_label"] != NO_TARGETS]
    trials = trials.assign(alpha_over_rank=[float(f"{one:.6g}") for one in trials["alpha_over_rank"].astype(float)])
    return tuple(_tables(trials, results))


def _tables(trials: pd.DataFrame, results: Results) -> Iterator[SpotTable]:
    complete = sort_by_quality(trials[trials["status"] == "complete"], results.metric)
    for name, title in _GROUPS:
        if complete[name].nunique() < 2:
            continue
        started = trials[name].value_counts().to_dict()
        groups = [(value, group) for value, group in complete.groupby(name, sort=True)]
        if name == "target_label":
            groups.sort(key=lambda one: float(one[1]["trainable_parameters"].astype(float).median()))
        rows = [_row(value, group, int(started[value]), results) for value, group in groups]
        shown = rows[:_MOST_ROWS]
        yield SpotTable(name, title, tuple(shown), len(rows) - len(shown), _sentence(name, rows))


def _row(value: object, group: pd.DataFrame, started: int, results: Results) -> SpotRow:
    best = group.iloc[0]
    name, quality = str(best["trial_id"]), float(best["quality"])
    return SpotRow(
        value=value if isinstance(value, str) else units.number(float(str(value)), 4),
        trials=len(group),
        started=started,
        best_id=name,
        best=quality,
        bounds=results.interval("eval", name, quality),
        median=float(group["quality"].astype(float).median()),
        tied=None if results.tied is None else int(group["trial_id"].isin(results.tied).sum()),
        parameters=float(group["trainable_parameters"].min()),
    )


def _sentence(name: str, rows: list[SpotRow]) -> str:
    """Which values have a trial in the tie set; nothing where that was not tested."""
    tied = [row for row in rows if row.tied]
    if not tied:
        return ""
    called = _CALLED[name]
    if len(tied) == len(rows):
        return f"Every {called} here has a trial that cannot be told from the best, so these data do not choose among them."
    if len(tied) == 1:
        return f"Only {called} {tied[0].value} has a trial that cannot be told from the best."
    listed = ", ".join(row.value for row in tied)
    least = f", the least of them {tied[0].value}" if name == "rank" else ""
    return f"Trials that cannot be told from the best have {called} {listed}{least}."
