"""Ranks by layer as an adapter's specification: PEFT's general rank and alpha, and patterns where layers differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TypeVar

from lora_sweep.records import AdapterSpec

Ranks = Mapping[str, int]
"""A layer's full name to its rank."""

Spec = TypeVar("Spec", bound=AdapterSpec)


def with_ranks(spec: Spec, ranks: Ranks, scalings: Mapping[str, float]) -> Spec:
    """The specification with a rank for each layer, and alphas that give each the scaling alpha / rank asked for.

    The most frequent rank and its alpha stand in general, the other layers in the patterns.

    Args:
        spec: everything else.
        ranks: of the layers to adapt; rank 0 leaves a layer out.
        scalings: alpha / rank, at least of these layers.
    """
    kept = {name: rank for name, rank in ranks.items() if rank > 0}
    if not kept:
        return spec.model_copy(update={"target_modules": (), "rank_pattern": {}, "alpha_pattern": {}})
    rank = Counter(kept.values()).most_common(1)[0][0]
    alpha = spec.alpha / spec.rank * rank
    alphas = {name: scalings[name] * k for name, k in kept.items()}
    update = {
        "rank": rank,
        "alpha": alpha,
        "target_modules": tuple(kept),
        "rank_pattern": {name: k for name, k in kept.items() if k != rank},
        "alpha_pattern": {name: a for name, a in alphas.items() if abs(a - alpha) > 1e-12 * alpha},
    }
    return spec.model_copy(update=update)
