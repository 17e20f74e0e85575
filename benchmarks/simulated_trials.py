"""Simulated sweeps of known quality: K trials answer n examples, and their true metric is known exactly.

Every answer follows from a latent u_ki = sqrt(rho) d_i + sqrt(1 - rho) e_ki with standard normal d_i (the example's
difficulty, shared by all trials) and e_ki (the trial's own luck), against the trial's ability z_k = quantile(p_k):

    accuracy     right when u < z
    loss         softplus(-2 (z - u)), the negative log-likelihood of a logistic answer with margin z - u
    macro_f1     right when u < z, else one of the two other classes at random; classes of 60, 30 and 10 %
    perplexity   1 + Poisson(30) tokens; nats = tokens m_k exp(u / 2 - 1/8), with m_k = 2.5 (1.8 - p_k)
    overconfident  a loss: 0.01 to 0.03 nats when u < z, else 4 to 6
    uneven       perplexity of texts of exp(3 + 1.5 normal) tokens, at least 1

rho is 0.9 in the correlated variant (two trials at 80 % disagree about 10 % of the time, as two trials of the demo do)
and 0 in the independent one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from reports.statistics import MacroF1Sample, MeanSample, RatioSample, Sample

Floats = npt.NDArray[np.float64]

CLASS_SHARES = np.array([0.6, 0.3, 0.1])
RHO = {"correlated": 0.9, "independent": 0.0}
SIGNS = {"accuracy": 1, "loss": -1, "macro_f1": 1, "perplexity": -1, "overconfident": -1, "uneven": -1}


def abilities(gap: str, trials: int) -> Floats:
    """p_k of K trials, the best first.

    `equal`: all 80 %; `leader`: one 82 %, the others 80 %; `close`, `spread`: evenly from 80 % down by 3 or 10 points;
    `high`, `few`: all 95 or 99.5 %, a few errors.
    """
    alike = {"equal": 0.8, "high": 0.95, "few": 0.995}
    if gap in alike:
        return np.full(trials, alike[gap])
    if gap == "leader":
        return np.array([0.82, *[0.8] * (trials - 1)])
    return 0.8 - {"close": 0.03, "spread": 0.10}[gap] * np.arange(trials) / (trials - 1)


@dataclass(frozen=True)
class Truth:
    """K trials whose quality is known.

    Attributes:
        metric: one of `SIGNS`.
        p: [K], see `abilities`.
        rho: the shared part of the latent's variance.
    """

    metric: str
    p: Floats
    rho: float

    @property
    def values(self) -> Floats:
        """[K], the metric on infinitely many examples."""
        return _TRUE[self.metric](self.p)

    def draw(self, examples: int, random: np.random.Generator) -> Sample:
        """A sample of examples and every trial's answers on them."""
        shared = random.standard_normal(examples)
        own = random.standard_normal((len(self.p), examples))
        latent = np.sqrt(self.rho) * shared + np.sqrt(1 - self.rho) * own
        return _DRAWN[self.metric](self.p, latent, random)


def _quantiles(p: Floats) -> Floats:
    return np.array([NormalDist().inv_cdf(one) for one in p])


def _true_loss(p: Floats) -> Floats:
    # the integrand is smooth: 200 nodes are exact to rounding
    nodes, weights = np.polynomial.hermite_e.hermegauss(200)
    losses = np.logaddexp(0, -2 * (_quantiles(p)[:, None] - nodes))
    return losses @ weights / weights.sum()


def _true_macro_f1(p: Floats) -> Floats:
    shares = CLASS_SHARES[None, :]
    right = p[:, None]
    predicted = shares * right + (1 - shares) * (1 - right) / (len(CLASS_SHARES) - 1)
    return (2 * shares * right / (shares + predicted)).mean(axis=1)


def _nats_per_token(p: Floats) -> Floats:
    return 2.5 * (1.8 - p)


def _draw_accuracy(p: Floats, latent: Floats, random: np.random.Generator) -> Sample:
    return MeanSample((latent < _quantiles(p)[:, None]).astype(np.float32), "share", binary=True)


def _draw_loss(p: Floats, latent: Floats, random: np.random.Generator) -> Sample:
    return MeanSample(np.logaddexp(0, -2 * (_quantiles(p)[:, None] - latent)), "loss")


def _draw_macro_f1(p: Floats, latent: Floats, random: np.random.Generator) -> Sample:
    classes = len(CLASS_SHARES)
    labels = random.choice(classes, size=latent.shape[1], p=CLASS_SHARES)
    wrong = (labels + random.integers(1, classes, size=latent.shape)) % classes
    return MacroF1Sample(labels, np.where(latent < _quantiles(p)[:, None], labels, wrong), classes)


def _draw_perplexity(p: Floats, latent: Floats, random: np.random.Generator) -> Sample:
    tokens = 1.0 + random.poisson(30, size=latent.shape[1])
    return RatioSample(tokens * _nats_per_token(p)[:, None] * np.exp(latent / 2 - 1 / 8), tokens, "perplexity")


def _draw_overconfident(p: Floats, latent: Floats, random: np.random.Generator) -> Sample:
    right = latent < _quantiles(p)[:, None]
    return MeanSample(np.where(right, random.uniform(0.01, 0.03, right.shape), random.uniform(4, 6, right.shape)))


def _draw_uneven(p: Floats, latent: Floats, random: np.random.Generator) -> Sample:
    tokens = np.maximum(1.0, np.floor(np.exp(3 + 1.5 * random.standard_normal(latent.shape[1]))))
    return RatioSample(tokens * _nats_per_token(p)[:, None] * np.exp(latent / 2 - 1 / 8), tokens, "perplexity")


_TRUE: dict[str, Callable[[Floats], Floats]] = {
    "accuracy": lambda p: p,
    "loss": _true_loss,
    "macro_f1": _true_macro_f1,
    "perplexity": lambda p: np.exp(_nats_per_token(p)),
    "overconfident": lambda p: 0.02 * p + 5 * (1 - p),
    "uneven": lambda p: np.exp(_nats_per_token(p)),
}
_DRAWN: dict[str, Callable[[Floats, Floats, np.random.Generator], Sample]] = {
    "accuracy": _draw_accuracy,
    "loss": _draw_loss,
    "macro_f1": _draw_macro_f1,
    "perplexity": _draw_perplexity,
    "overconfident": _draw_overconfident,
    "uneven": _draw_uneven,
}
