"""What mattered: importance of the hyperparameters, quality over each of them, and where enough is enough.

`get_mattered_info` fits a forest to the trials, `get_sweet_spots` sums up complete trials value by value. Nothing heavy
is loaded before a fit is asked for.
"""

from __future__ import annotations

from reports.importance.comparable import Comparable, Hyperparameter, comparable, own_trials
from reports.importance.landscape import get_map_info, get_parallel_info
from reports.importance.mattered import Importance, Marginal, Mattered, get_mattered_info
from reports.importance.sweet_spot import SpotRow, SpotTable, get_sweet_spots

__all__ = [
    "Comparable",
    "Hyperparameter",
    "Importance",
    "Marginal",
    "Mattered",
    "SpotRow",
    "SpotTable",
    "comparable",
    "get_map_info",
    "get_mattered_info",
    "get_parallel_info",
    "get_sweet_spots",
    "own_trials",
]
