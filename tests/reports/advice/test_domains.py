"""Domains of hyperparameters, widened and narrowed."""

from __future__ import annotations

from reports.advice.domains import at_edge, bounded_above, has_room, widened
from search_spaces import Space


def test_domains() -> None:
    space = {
        "rank": [4, 8, 16],
        "alpha": {"times_rank": [1, 2]},
        "dropout": [0.0, 0.05],
        "learning_rate": {"log_uniform": [1e-4, 1e-2]},
        "warmup": {"uniform": [0.1, 0.3]},
        "batch_size": {"integer": [8, 16]},
    }
    entries = dict(Space.parse(space).entries)
    assert not has_room("dropout", entries["dropout"], "lower") and has_room("dropout", entries["dropout"], "upper")
    assert widened("dropout", entries["dropout"], "upper") == [0.0, 0.05, 0.1]
    assert widened("rank", entries["rank"], "lower") == [2, 4, 8, 16]
    assert widened("alpha", entries["alpha"], "upper") == {"times_rank": [1.0, 2.0, 4.0]}
    assert widened("warmup", entries["warmup"], "upper") == {"uniform": [0.1, 0.4]}
    assert widened("batch_size", entries["batch_size"], "upper") == {"integer": [8, 20]}
    rate = entries["learning_rate"]
    assert at_edge(7e-3, rate, "upper") and not at_edge(5e-3, rate, "upper") and at_edge(1.5e-4, rate, "lower")
    assert bounded_above(rate, 0.00512) == {"log_uniform": [1e-4, 0.0052]} and bounded_above(rate, 1e-4) is None
    assert bounded_above(entries["rank"], 8) == [4, 8] and bounded_above(entries["rank"], 1) is None
