"""How long a trial trains, in steps or in epochs, and how often it is evaluated."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from pydantic import model_validator

from lora_sweep.errors import ConfigError
from lora_sweep.records import Record
from lora_sweep.validation import Count, Positive
from search_spaces.errors import Shown
from search_spaces.texts import read_number


class BudgetConfig(Record):
    """How long a trial trains: optimizer steps or passes over the training data, one of them.

    Attributes:
        eval_every: in the unit of the budget; a fourth of it unless given.
    """

    steps: Count | None = None
    epochs: Positive | None = None
    eval_every: Positive

    @model_validator(mode="before")
    @classmethod
    def _fill_eval_every(cls, raw: Any) -> Any:
        if not isinstance(raw, Mapping) or raw.get("eval_every") is not None:
            return raw
        steps, epochs = read_number(raw.get("steps")), read_number(raw.get("epochs"))
        fourth = math.ceil(steps / 4) if steps is not None else (epochs or 4) / 4
        return {**raw, "eval_every": fourth if fourth > 0 else 1}

    @model_validator(mode="after")
    def _check(self) -> BudgetConfig:
        if (self.steps is None) == (self.epochs is None):
            got = Shown("neither" if self.steps is None else f"steps={self.steps}, epochs={self.epochs:g}")
            raise ConfigError("budget", "must give exactly one of steps and epochs", got, "Set the other to null.")
        total = self.steps if self.steps is not None else self.epochs
        every = Shown(f"{self.eval_every:g}")
        if total is not None and self.eval_every > total:
            raise ConfigError("budget.eval_every", f"must be at most the budget ({total:g})", every)
        if self.steps is not None and self.eval_every != int(self.eval_every):
            raise ConfigError("budget.eval_every", "must be whole when the budget is in steps", every)
        return self

    def in_steps(self, examples_per_step: int, train_examples: int) -> tuple[int, int]:
        """The budget and the distance between evaluations, in optimizer steps; both at least 1."""
        if self.steps is not None:
            return self.steps, int(self.eval_every)
        # Fraction(str(x)), so that 1.1 epochs of 100 examples are 110 and not a hair more
        steps = [
            math.ceil(train_examples * Fraction(str(epochs)) / examples_per_step)
            for epochs in (self.epochs, self.eval_every)
        ]
        return max(steps[0], 1), max(steps[1], 1)
