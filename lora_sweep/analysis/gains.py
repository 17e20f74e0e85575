"""What a rank at each layer is worth: what the trained trial owes to the layer, along the gradient's directions.

**Level.** Training lets the layers compete, so what it made of them says where the change belongs. Removing the k-th
singular direction of a layer's update, s_k u_k v_k^T, changes example i's loss to first order by

    e_ik = s_k <G_i^T X_i, u_k v_k^T>

and, near a minimum, all of them together by about level = 1/2 sum_k mean_i e_ik^2: the second-order term with the
empirical Fisher information in place of the Hessian, as in Fisher pruning (Theis et al., arXiv 1801.05787), between
directions left out.

**Shape.** The trial shows no more directions than it had ranks. How many a layer can use is in the gradient where
training began: its slopes along singular directions, judged on examples that did not choose them (`directions`). Adam
moves every direction by about the same amount whatever the size of its slope, so a direction's gain goes with its
slope. Scaled such that as many directions as the trial had ranks r gain the level:

    gain_k = level * slope_k / (slope_1 + ... + slope_r)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lora_sweep.analysis.allocation import Gains, allocate, falling, gained
from lora_sweep.analysis.directions import Slopes

RESAMPLES = 200


@dataclass(frozen=True)
class LayerEvidence:
    """What was measured of one layer.

    Attributes:
        effects: fp64 [examples, r], e_ik of the module's text, at the trained adapter.
        slopes: where training began.
        cost: parameters of one rank, in + out.
    """

    effects: np.ndarray
    slopes: Slopes
    cost: int

    @property
    def level(self) -> float:
        """In nats."""
        return float((self.effects**2).sum(axis=1).mean() / 2)

    @property
    def slope(self) -> np.ndarray:
        """fp64 [k], the mean over both halves."""
        first, second = self.slopes.halves
        return np.asarray((first.mean(axis=0) + second.mean(axis=0)) / 2)

    def gains(self) -> list[float]:
        """Of each rank, in nats; none is negative and none larger than the one before."""
        return _gains(self.level, self.slope, self.effects.shape[1])

    def gains_of_half(self, half: int, examples: np.ndarray, weights: np.ndarray) -> list[float]:
        """The same from one half alone.

        Args:
            half: 0 or 1.
            examples: the half's positions among all, [n].
            weights: of these examples, [n], with the sum 1.
        """
        level = float(weights @ (self.effects[examples] ** 2).sum(axis=1) / 2)
        return _gains(level, weights @ self.slopes.halves[half], self.effects.shape[1])


@dataclass(frozen=True)
class Check:
    """Whether the layers differ by more than the noise of the examples.

    Attributes:
        gain: how much more the placement that one half chose gains on the other than uniform ranks do, as a share of
            what these gain; the mean of both ways.
        bounds: its 95 % interval over the examples that judge.
    """

    gain: float
    bounds: tuple[float, float]

    @property
    def differs(self) -> bool:
        return self.bounds[0] > 0


def check_difference(
    evidence: Mapping[str, LayerEvidence],
    uniform: Mapping[str, int],
    budget: int,
    halves: tuple[np.ndarray, np.ndarray],
    seed: int,
) -> Check:
    """Choose a placement by one half of the examples and judge it by the other, both ways.

    Args:
        evidence: of each layer.
        uniform: ranks to compare with.
        budget: parameters for the placement.
        halves: positions of the examples.
        seed: of the resamples of the judging examples.
    """
    rng = np.random.default_rng([seed, 0xB007])
    costs = {name: one.cost for name, one in evidence.items()}
    figures, noise = [], []
    for chooser, judge in ((0, 1), (1, 0)):
        ranks = allocate(_of_half(evidence, chooser, halves[chooser], _even(len(halves[chooser]))), costs, budget)
        count = len(halves[judge])
        resamples = rng.multinomial(count, _even(count), size=RESAMPLES) / count
        judged = [
            _relative(_of_half(evidence, judge, halves[judge], weights), ranks, uniform)
            for weights in (_even(count), *resamples)
        ]
        figures.append(judged[0])
        noise.append(judged[1:])
    gain, half_width = float(np.mean(figures)), 1.96 * float(np.mean(noise, axis=0).std(ddof=1))
    return Check(gain, (gain - half_width, gain + half_width))


def _gains(level: float, slope: np.ndarray, own: int) -> list[float]:
    shape = falling(slope.tolist())
    total = sum(shape[:own])
    if total <= 0:  # no direction stands out: what the trial had, evenly
        return [level / own if k < own else 0.0 for k in range(len(shape))]
    return [level * one / total for one in shape]


def _of_half(evidence: Mapping[str, LayerEvidence], half: int, examples: np.ndarray, weights: np.ndarray) -> Gains:
    return {name: one.gains_of_half(half, examples, weights) for name, one in evidence.items()}


def _relative(gains: Gains, ranks: Mapping[str, int], uniform: Mapping[str, int]) -> float:
    base = gained(gains, uniform)
    return gained(gains, ranks) / base - 1 if base > 0 else 0.0


def _even(count: int) -> np.ndarray:
    return np.full(count, 1 / count)
