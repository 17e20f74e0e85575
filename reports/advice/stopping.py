"""A scheduler that left too few trials to compare."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from reports import units
from reports.advice.piece import Advice
from reports.advice.situation import Situation

_FEWEST = 3


def early_stopping(situation: Situation) -> Iterator[Advice]:
    """ASHA stopped at least three trials and fewer than three trained to the end."""
    stopped = situation.trials[situation.trials["status"] == "stopped"]
    complete = situation.trials[situation.trials["status"] == "complete"]
    scheduler = situation.section("scheduler")
    if scheduler.get("type") != "asha" or len(complete) >= _FEWEST or len(stopped) < _FEWEST:
        return
    reached = float(stopped["share_of_budget"].astype(float).median())
    yield Advice(
        title="Let more trials train to the end",
        fact=(
            f"ASHA stopped {len(stopped)} of {units.plural(len(situation.trials), 'trial')}, half of them by "
            f"{units.percent(reached)} of their steps; {len(complete)} trained to the end."
        ),
        why="With so few complete trials there is little to choose among, and slow starters have no chance.",
        change={"scheduler": _gentler(situation, scheduler)},
    )


def _gentler(situation: Situation, scheduler: Any) -> dict[str, Any]:
    grace, reduction = int(scheduler.get("grace") or 1), int(scheduler.get("reduction") or 3)
    if reduction > 2:
        return {"type": "asha", "grace": grace, "reduction": 2}
    evaluations = situation.results.points.groupby("trial_id").size().max()
    if grace + 1 < int(evaluations):
        return {"type": "asha", "grace": grace + 1, "reduction": reduction}
    return {"type": "fifo"}
