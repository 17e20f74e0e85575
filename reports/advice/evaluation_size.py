"""An evaluation set that cannot tell the leading trials apart."""

from __future__ import annotations

from collections.abc import Iterator

from reports import units
from reports.advice.piece import Advice
from reports.advice.situation import Situation
from reports.advice.sizes import examples_needed

_LEAST_TRIALS = 4
_LEAST_TIED = 3


def evaluation_size(situation: Situation) -> Iterator[Advice]:
    """At least half of the complete trials, and at least three, cannot be told from the best."""
    tied, complete, results = situation.tied, situation.complete, situation.results
    examples = results.examples("eval")
    if tied is None or examples is None or len(complete) < _LEAST_TRIALS:
        return
    if len(tied) < _LEAST_TIED or 2 * len(tied) < len(complete):
        return
    metric = results.metric
    pair = situation.compare(complete.iloc[0], complete.iloc[1])
    point = 0.01 if metric.is_proportion else 0.01 * abs(float(complete["quality"].iloc[0]))
    for_point, for_gap = (examples_needed(pair, examples, size) for size in (point, abs(pair.gain)))
    if for_point is None or for_point <= examples:
        return
    unit = "1 point" if metric.is_proportion else f"1 % of it ({metric.difference_text(point)})"
    gap = (
        f", the {metric.difference_text(pair.gain)} between the best and the runner-up about {for_gap:,}"
        if for_gap and for_gap > examples
        else ""
    )
    yield Advice(
        title="Evaluate on more examples",
        fact=(
            f"{len(tied)} of {units.plural(len(complete), 'complete trial')} cannot be told from the best on "
            f"{units.plural(examples, 'evaluation example')}. As often as the best two disagree, showing a difference "
            f"of {unit} with 80 % power takes about {for_point:,} examples{gap}."
        ),
        why=(
            "More trials would only make the crowd larger: the data decide how fine a difference shows. Give more "
            "examples as task.data.eval, or settle for the cheapest of the set."
        ),
    )
