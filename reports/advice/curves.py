"""The leading trials at their start, after three quarters of their steps and at their end."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from reports.advice.situation import Situation
from reports.frame import finite


@dataclass(frozen=True)
class Course:
    """One trial's evaluations that have an evaluation loss, a training loss and the metric; at least three.

    Attributes:
        steps, quality, eval_loss, train_loss: in the order of the evaluations.
        late: the place of the last evaluation at or before three quarters of the steps.
    """

    trial_id: str
    steps: tuple[int, ...]
    quality: tuple[float, ...]
    eval_loss: tuple[float, ...]
    train_loss: tuple[float, ...]

    @property
    def late(self) -> int:
        return max(i for i, step in enumerate(self.steps) if step <= 0.75 * self.steps[-1] or i == 0)

    @property
    def lowest(self) -> int:
        """The place of the lowest evaluation loss."""
        return int(np.argmin(self.eval_loss))


def courses(situation: Situation) -> list[Course]:
    """The courses of the leaders that can be judged."""
    return list(_courses(situation))


def _courses(situation: Situation) -> Iterator[Course]:
    for name, points in situation.leading_points.items():
        if "eval_loss" not in points:
            continue
        columns = ("step", "quality", "eval_loss", "train_loss")
        rows = [tuple(map(finite, row)) for row in zip(*(points[column] for column in columns), strict=True)]
        rows = [row for row in rows if all(math.isfinite(value) for value in row)]
        if len(rows) >= 3:
            steps, quality, eval_loss, train_loss = zip(*rows, strict=True)
            yield Course(name, tuple(int(step) for step in steps), quality, eval_loss, train_loss)
