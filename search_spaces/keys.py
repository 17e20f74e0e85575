"""The keys that a space may hold, what each accepts, and the defaults of what a space leaves out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from search_spaces.errors import SpaceError, shown
from search_spaces.texts import read_number


@dataclass(frozen=True)
class Key:
    """What one key accepts.

    Attributes:
        kind: whole numbers, numbers, names out of a list, sets of target modules, or patterns: numbers of single
            layers by their full names.
        rule: the same as a sentence for messages.
        low: smallest number; with `above` it is itself excluded.
        below: all numbers are below this one; None for no bound.
        names: what a name may be.
        nullable: whether null is a value too.
    """

    kind: Literal["integer", "number", "name", "targets", "pattern"]
    rule: str
    low: float = 0
    above: bool = False
    below: float | None = None
    names: tuple[str, ...] = ()
    nullable: bool = False

    def read(self, raw: object, place: str) -> int | float | str | None:
        """The value that `raw` stands for.

        Raises:
            SpaceError: `raw` breaks the key's rule.
        """
        if raw is None and self.nullable:
            return None
        if self.kind == "name":
            if isinstance(raw, str) and raw in self.names:
                return raw
            raise SpaceError(place, self.rule, shown(raw))
        number = read_number(raw)
        if number is None or not self._holds(number):
            raise SpaceError(place, self.rule, shown(raw))
        return int(number) if self.kind == "integer" else float(number)

    def _holds(self, number: int | float) -> bool:
        if self.kind == "integer" and number != int(number):
            return False
        if self.below is not None and number >= self.below:
            return False
        return number > self.low if self.above else number >= self.low


def _count(low: int) -> Key:
    return Key("integer", f"must be a whole number of at least {low}", low=low)


def _names(*names: str) -> Key:
    return Key("name", f"must be {', '.join(names[:-1])} or {names[-1]}", names=names)


_POSITIVE = Key("number", "must be a number above 0", above=True)
_SHARE = Key("number", "must be a number of at least 0 and below 1", below=1)

KEYS: dict[str, Key] = {
    "target_modules": Key("targets", "must be a group, a module name, or labelled sets of them"),
    "rank": _count(1),
    "alpha": _POSITIVE,
    "dropout": _SHARE,
    "bias": Key("name", "must be none or lora_only: other layers' biases stay frozen", names=("none", "lora_only")),
    "learning_rate": _POSITIVE,
    "batch_size": _count(1),
    "accumulate": _count(1),
    "optimizer": _names("adamw", "sgd"),
    "weight_decay": Key("number", "must be a number of at least 0"),
    "schedule": _names("linear", "cosine", "constant"),
    "warmup": _SHARE,
    "clip": Key("number", "must be a number above 0 or null", above=True, nullable=True),
    "seed": _count(0),
    "rank_pattern": Key("pattern", "must be ranks by full layer name, or labelled sets of them", low=1),
    "alpha_pattern": Key("pattern", "must be alphas by full layer name, or labelled sets of them", above=True),
}

DEFAULTS: dict[str, Any] = {
    # All linear layers beat attention alone at equal parameters ("LoRA Without Regret").
    "target_modules": "all-linear",
    # 8 to 16 does for most tasks.
    "rank": 16,
    # One fixed convention: alpha and the learning rate scale the same update, so only the rate is searched.
    "alpha": {"times_rank": 2},
    "dropout": 0.0,
    # About ten times full fine-tuning's, nearly the same at every rank: 5e-4 (2000 / hidden)^0.78 is 1.1e-3 at
    # hidden = 768. Most divergences in published sweeps start at 3e-3.
    "learning_rate": 1e-3,
    # Smaller batches suit LoRA.
    "batch_size": 16,
}
"""The other keys stay out of a sampled configuration unless the space names them."""
