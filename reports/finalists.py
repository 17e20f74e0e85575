"""Which trials go on to the test data and to new seeds: the best, and those that the pick could fall on."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lora_sweep.store import RunFolder
from reports.pareto import pareto_front
from reports.results import Results, read_results


def choose_finalists(run: RunFolder | Results, top: int) -> list[str]:
    """The ids of the finalists, the best on the evaluation data first.

    In the order of their right to a place: the cheapest of the tie set, which is the pick; the best; the members of the
    tie set that no member beats on both parameters and quality, from the cheapest up; then whoever is next best. No
    configuration has two places.

    Args:
        run: the run; repeats and trials that did not train to the end are no candidates.
        top: how many, at least 1.
    """
    results = read_results(run)
    ranked = results.ranked("complete")
    if ranked.empty:
        return []
    front = _tied_front(results, ranked)
    order = pd.concat([front.head(1), ranked.head(1), front, ranked])
    chosen = order.drop_duplicates("configuration").head(top)["trial_id"].astype(str).tolist()
    return [name for name in ranked["trial_id"].astype(str) if name in chosen]


def _tied_front(results: Results, ranked: pd.DataFrame) -> pd.DataFrame:
    """The members of the tie set on the front of parameters and quality, cheapest first; empty without outcomes."""
    tied = ranked[ranked["trial_id"].isin(results.tied or ())]
    losses = -tied["quality"] if results.metric.mode == "max" else tied["quality"]
    front = tied[pareto_front(np.column_stack([tied["trainable_parameters"], losses]))]
    # stable: among the equally cheap the better one stays first, as in the pick
    return front.sort_values("trainable_parameters", kind="stable")
