"""Ranks that the evaluation data cannot tell apart."""

from __future__ import annotations

from collections.abc import Iterator

from reports.advice.piece import Advice
from reports.advice.situation import Situation
from reports.advice.sizes import examples_needed

_LEAST = 2


def indistinct_ranks(situation: Situation) -> Iterator[Advice]:
    """Every rank has a trial in the tie set, and the ranks' medians differ by less than the noise of a figure."""
    tied, complete, results = situation.tied, situation.complete, situation.results
    groups = {int(float(str(rank))): rows for rank, rows in complete.groupby("rank")}
    if tied is None or len(groups) < 2 or any(len(rows) < _LEAST for rows in groups.values()):
        return
    if set(groups) != {int(rank) for rank in tied["rank"].dropna()} or situation.domain("rank") is None:
        return
    medians = [float(rows["quality"].astype(float).median()) for rows in groups.values()]
    best = complete.iloc[0]
    bounds = results.interval("eval", str(best["trial_id"]), float(best["quality"]))
    spread = max(medians) - min(medians)
    if bounds is None or spread >= (bounds[1] - bounds[0]) / 2:
        return
    least, most = min(groups), max(groups)
    pair = situation.compare(groups[most].iloc[0], groups[least].iloc[0])
    metric = results.metric
    needed = examples_needed(pair, results.examples("eval"), abs(pair.gain))
    enough = f" To tell these two, about {needed:,} examples would be needed." if needed else ""
    yield Advice(
        title=f"Fix the rank at {least}, or measure on more examples",
        fact=(
            f"Ranks {', '.join(map(str, groups))} each have a trial that cannot be told from the best; "
            f"their median {metric.title} differs by {metric.difference_text(spread)}, less than the ± "
            f"{metric.difference_text((bounds[1] - bounds[0]) / 2)} of a single figure. The best of rank {most} and "
            f"the best of rank {least} are {metric.difference_text(pair.gain)} apart.{enough}"
        ),
        why=(
            "At this budget the rank decides nothing that these evaluation data can show. The smallest rank is the "
            "cheapest, and the trials are better spent on something else. A longer budget or harder data can still "
            "need more."
        ),
        change={"space": {"rank": least}},
    )
