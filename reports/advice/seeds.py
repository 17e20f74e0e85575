"""A choice that rests on one seed a configuration."""

from __future__ import annotations

from collections.abc import Iterator

from reports import units
from reports.advice.piece import Advice
from reports.advice.situation import Situation
from reports.searched import repeats


def one_seed(situation: Situation) -> Iterator[Advice]:
    """At least two complete trials, no configuration among them has a second seed, and the space sets none."""
    complete, results = situation.complete, situation.results
    again = results.trials[results.trials["status"] == "complete"]["configuration"].duplicated().any()
    if len(complete) < 2 or len(repeats(results)) or again or situation.has_key("seed"):
        return
    best, runner_up = complete.iloc[0], complete.iloc[1]
    pair, metric = situation.compare(best, runner_up), results.metric
    yield Advice(
        title="Train the finalists with more seeds",
        fact=(
            f"Each of the {units.plural(len(complete), 'complete trial')} was trained with one seed. "
            f"{best['trial_id']} leads {runner_up['trial_id']} by {metric.difference_text(pair.gain)}; how much of "
            "that is the seed's, nothing here can say."
        ),
        why="Another seed gives another adapter, and may turn the order round.",
        change={"finalists": {"seeds": 3}},
    )
