"""What a figure draws of more trials than it can hold: who is drawn singly, and a band for all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from reports.results import Results

MOST_POINTS = 1000
"""The most trials that a scatter plot draws."""

MOST_CURVES = 60
"""The most trials whose curves are all drawn singly; of more, the `LEADING` and the finalists are."""

LEADING = 20

_MOST_STEPS = 50
_LOW, _HIGH = 0.1, 0.9


@dataclass(frozen=True)
class Band:
    """The middle 80 % of many trials at each step.

    Attributes:
        steps: ascending; of more than 50 different ones neighbours are joined under the last of them.
        low, median, high: the quantiles 10, 50 and 90 % of the trials that have a value at the step.
        trials: how many these are. A scheduler leaves fewer at later steps, and the better ones.
    """

    steps: tuple[int, ...]
    low: tuple[float, ...]
    median: tuple[float, ...]
    high: tuple[float, ...]
    trials: tuple[int, ...]


def drawn_singly(trials: pd.DataFrame, results: Results) -> pd.DataFrame:
    """The trials that a scatter plot draws: all of them up to `MOST_POINTS`.

    Of more: the front (column `on_front`, where there is one), the trials that cannot be told from the best, the
    finalists and the leading ones, and of the others every so many-th in the order of quality, so that good and bad
    are seen in their true proportion.

    Args:
        trials: rows of `trial_frame` that have a quality.
        results: the run.
    """
    if len(trials) <= MOST_POINTS:
        return trials
    kept = trials["trial_id"].isin([*(results.tied_candidates or ()), *leading_ids(results)]).to_numpy(copy=True)
    if "on_front" in trials:
        kept |= trials["on_front"].to_numpy(dtype=np.bool_)
    others = np.flatnonzero(~kept)
    by_quality = others[np.argsort(trials["quality"].to_numpy(dtype=np.float64)[others], kind="stable")]
    room = min(len(others), max(2, MOST_POINTS - int(kept.sum())))
    kept[by_quality[np.linspace(0, len(others) - 1, room).round().astype(int)]] = True
    return trials[kept]


def leading_ids(results: Results) -> list[str]:
    """The leading complete trials (stopped ones, when none is complete) and the finalists."""
    ranked = results.ranked("complete")
    leading = (ranked if len(ranked) else results.ranked("stopped")).head(LEADING)
    finalists = results.trials[results.trials["test_quality"].notna()].head(LEADING)
    return list(dict.fromkeys([*leading["trial_id"].astype(str), *finalists["trial_id"].astype(str)]))


def quantile_band(points: pd.DataFrame, column: str) -> Band:
    """The band of one column of `points_frame` over the steps; rows without a value must be left out before."""
    steps = points["step"].astype(int)
    if steps.nunique() > _MOST_STEPS:
        width = -(-int(steps.max()) // _MOST_STEPS)
        steps = -(-steps // width) * width
    groups = points.groupby(steps.to_numpy())
    low, median, high = (tuple(map(float, groups[column].quantile(share).to_numpy())) for share in (_LOW, 0.5, _HIGH))
    trials = groups["trial_id"].nunique()
    return Band(tuple(map(int, trials.index)), low, median, high, tuple(map(int, trials)))
