"""What a space asks for, as data for reports and validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from search_spaces.domains import Choice
from search_spaces.traversal import Bound


@dataclass(frozen=True)
class ParameterInfo:
    """One thing that a chooser is asked for.

    Attributes:
        name: under which it is asked; unique.
        key: the key of the configuration that it decides.
        kind: `categorical` has options, the others low and high.
        options: the labels of the choices.
        low: smallest number.
        high: largest number.
        step: distance between whole numbers.
        log: whether numbers spread evenly in the logarithm.
        times_rank: numbers or options are factors of the rank.
        conditions: the branches where it stands, e.g. `target_modules=all-linear`; empty when it always stands.
    """

    name: str
    key: str
    kind: Literal["categorical", "uniform", "log_uniform", "integer"]
    options: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    step: int = 1
    log: bool = False
    times_rank: bool = False
    conditions: tuple[str, ...] = ()


def parameter_info(name: str, bounds: Sequence[Bound]) -> ParameterInfo:
    """What a chooser is asked for under this name.

    Args:
        name: the parameter's name.
        bounds: where it stands, at least one; all have the same domain.
    """
    key, domain = bounds[0].key, bounds[0].domain
    always = any(not bound.path for bound in bounds)
    conditions = () if always else tuple("/".join(bound.path) for bound in bounds)
    if isinstance(domain, Choice):
        labels = tuple(option.label for option in domain.options)
        return ParameterInfo(name, key, "categorical", labels, times_rank=domain.times_rank, conditions=conditions)
    return ParameterInfo(
        name,
        key,
        "integer" if domain.kind == "log_integer" else domain.kind,
        low=domain.low,
        high=domain.high,
        step=domain.step,
        log=domain.log,
        times_rank=domain.times_rank,
        conditions=conditions,
    )
