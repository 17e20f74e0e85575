"""In which order the candidates of a pick come: the tie set from the cheapest up, then the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from lora_sweep.errors import ConfigError
from reports.configurations import held_over_seeds, ruled_out_over_seeds
from reports.pick_cost import PARAMETERS, CostRule
from reports.results import Results
from reports.statistics import TieSet

Parsimony = Literal["tie-set", "one-standard-error"]


@dataclass(frozen=True)
class Order:
    """Candidates in the order of choice, with what decided it; the fields are those of `Pick`."""

    rows: pd.DataFrame
    costs: Mapping[str, float] | None = None
    ruled_out: tuple[str, ...] = ()
    unrepeated: tuple[str, ...] = ()


def order_of_choice(
    room: pd.DataFrame, ties: TieSet | None, cost: CostRule | None, parsimony: Parsimony, results: Results
) -> Order:
    """The tie set from the cheapest up, then the others from the best down.

    Where other seeds rule out members, those that other seeds did not rule out come first, then those without other
    seeds, then those ruled out.

    Args:
        room: the candidates within the limits, best first.
        ties: None where nobody knows who cannot be told from the best; then the best figure comes first.
        cost: what "cheapest" means; None for the default.
        parsimony: see `pick`.
        results: the run.

    Raises:
        ConfigError: a `cost` that was given was measured for none of those that may be chosen.
    """
    if ties is None:
        return Order(room)
    marks = ties.within_one_error if parsimony == "one-standard-error" else ties.members
    members = [name for name, mark in zip(ties.trial_ids, marks, strict=True) if mark]
    inside = room["trial_id"].isin(members)
    barred = inside & room["source"].isin(ruled_out_over_seeds(results))
    if (barred == inside).all():
        barred[:] = False
    held = inside & ~barred & room["source"].isin(held_over_seeds(results))
    first = held if barred.any() and held.any() else inside & ~barred
    later = inside & ~barred & ~first
    rule = cost or PARAMETERS
    costs = rule.values(room[first])
    if cost is not None and costs.isna().all():
        raise ConfigError("--cost", "must have been measured for one that is open to choice", rule.formula, rule.remedy)
    rows = pd.concat([_cheapest_first(room[first], rule), _cheapest_first(room[later], rule)])
    by_id = dict(zip(room.loc[first, "trial_id"].astype(str), costs.astype(float), strict=True))
    names = (tuple(room.loc[mask, "trial_id"].astype(str)) for mask in (barred, later))
    return Order(pd.concat([rows, room[barred], room[~inside]]), by_id, *names)


def _cheapest_first(rows: pd.DataFrame, cost: CostRule) -> pd.DataFrame:
    # stable: among the equally cheap, and where nobody knows what they cost, the better one stays first
    return rows.loc[cost.values(rows).sort_values(kind="stable", na_position="last").index]
