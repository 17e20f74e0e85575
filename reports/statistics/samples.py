"""A metric on a sample of examples, for many trials at once: its value, and its value on any resample of the examples.

A resample is a row of counts (how often each example was drawn), so that all trials see the same resample and every
comparison between them is paired. K is the number of trials, n that of examples, b that of resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, Self

import numpy as np
import numpy.typing as npt

from reports.statistics.normal import Floats

Reals = npt.NDArray[np.floating]
Integers = npt.NDArray[np.integer]

Kind = Literal["share", "loss", "perplexity"]
"""What values the metric takes: in [0, 1], above 0, or above 1; `scales` has the transform of each."""


class Sample(Protocol):
    """One metric of K trials on the same n examples."""

    @property
    def kind(self) -> Kind:
        """What values the metric takes."""

    @property
    def binary(self) -> bool:
        """Whether the metric is the mean of zeros and ones."""

    @property
    def examples(self) -> int:
        """n."""

    def recompute(self, counts: Reals) -> Floats:
        """The metric on resamples: counts [b, n] -> [b, K]."""

    def leave_one_out(self) -> Floats:
        """The metric without each example: [K, n]."""

    def contributions(self) -> Floats:
        """By how much each example moves the metric, its logarithm for perplexity: [K, n]."""

    def take(self, trials: Sequence[int]) -> Self:
        """The same for some of the trials, by position."""


def estimates(sample: Sample) -> Floats:
    """The metric on the sample itself, [K]."""
    whole: Floats = sample.recompute(np.ones((1, sample.examples)))[0]
    return whole


@dataclass(frozen=True)
class MeanSample:
    """The mean over examples: accuracy, or the loss of a classification.

    Attributes:
        values: [K, n]; zeros and ones for `binary`.
        kind: `share` or `loss`.
        binary: whether `values` are zeros and ones; then sums are exact in float32, which is twice as fast.
    """

    values: Reals
    kind: Kind = "loss"
    binary: bool = False

    @property
    def examples(self) -> int:
        return int(self.values.shape[1])

    def recompute(self, counts: Reals) -> Floats:
        values = self.values.astype(np.float32 if self.binary else np.float64, copy=False)
        sums = counts.astype(values.dtype, copy=False) @ values.T
        means: Floats = sums.astype(np.float64) / counts.sum(axis=1, dtype=np.float64)[:, None]
        return means

    def leave_one_out(self) -> Floats:
        values = self.values.astype(np.float64, copy=False)
        rest: Floats = (values.sum(axis=1, keepdims=True) - values) / (self.examples - 1)
        return rest

    def contributions(self) -> Floats:
        return self.values.astype(np.float64, copy=False) / self.examples

    def take(self, trials: Sequence[int]) -> Self:
        return replace(self, values=self.values[list(trials)])


@dataclass(frozen=True)
class RatioSample:
    """A ratio of sums over examples: the loss of a language model per scored token, or its perplexity.

    Attributes:
        numerators: [K, n], the summed negative log-likelihood of each example in nats.
        denominators: [n], above 0, its scored tokens.
        kind: `loss`, or `perplexity` for the exponential of the ratio.
    """

    numerators: Floats
    denominators: Floats
    kind: Kind = "loss"
    binary: bool = False

    @property
    def examples(self) -> int:
        return int(self.numerators.shape[1])

    def recompute(self, counts: Reals) -> Floats:
        exact = counts.astype(np.float64, copy=False)
        return self._of((exact @ self.numerators.T) / (exact @ self.denominators)[:, None])

    def leave_one_out(self) -> Floats:
        rest = self.numerators.sum(axis=1, keepdims=True) - self.numerators
        return self._of(rest / (self.denominators.sum() - self.denominators))

    def contributions(self) -> Floats:
        return self.numerators / float(self.denominators.sum())

    def take(self, trials: Sequence[int]) -> Self:
        return replace(self, numerators=self.numerators[list(trials)])

    def _of(self, ratio: Floats) -> Floats:
        if self.kind != "perplexity":
            return ratio
        with np.errstate(over="ignore"):
            exponential: Floats = np.exp(ratio)
        return exponential


@dataclass(frozen=True)
class MacroF1Sample:
    """The mean over all C classes of F1 = 2 TP / (labelled + predicted), 0 for a class neither present nor predicted.

    Attributes:
        labels: [n], in [0, C).
        predictions: [K, n], in [0, C).
        classes: C.
    """

    labels: Integers
    predictions: Integers
    classes: int
    kind: Kind = "share"
    binary: bool = False

    @property
    def examples(self) -> int:
        return len(self.labels)

    def recompute(self, counts: Reals) -> Floats:
        # sums of counts are whole numbers below 2**24, so float32 holds them exactly
        exact = counts.astype(np.float32, copy=False)
        labelled = exact @ self._one_hot(self.labels)
        found = np.empty((len(counts), len(self.predictions)))
        for trial, predicted in enumerate(self.predictions):
            marks = self._one_hot(predicted)
            hits = exact @ (marks * (predicted == self.labels)[:, None])
            found[:, trial] = _f1(hits, labelled + exact @ marks).mean(axis=1)
        return found

    def leave_one_out(self) -> Floats:
        return np.stack([self._without(predicted) for predicted in self.predictions])

    def contributions(self) -> Floats:
        return estimates(self)[:, None] - self.leave_one_out()

    def take(self, trials: Sequence[int]) -> Self:
        return replace(self, predictions=self.predictions[list(trials)])

    def _one_hot(self, classes: Integers) -> npt.NDArray[np.float32]:
        marks: npt.NDArray[np.float32] = classes[:, None] == np.arange(self.classes)
        return marks.astype(np.float32)

    def _without(self, predicted: Integers) -> Floats:
        """Leaving an example out changes the F1 of its label and of its prediction and of no other class."""
        hit, label = predicted == self.labels, self.labels
        hits = np.bincount(label[hit], minlength=self.classes)
        size = np.bincount(label, minlength=self.classes) + np.bincount(predicted, minlength=self.classes)
        whole = _f1(hits, size)
        at_label = _f1(hits[label] - hit, size[label] - 1 - hit) - whole[label]
        at_prediction = np.where(hit, 0.0, _f1(hits[predicted], size[predicted] - 1) - whole[predicted])
        without: Floats = (whole.sum() + at_label + at_prediction) / self.classes
        return without


def _f1(hits: npt.NDArray[np.generic], size: npt.NDArray[np.generic]) -> Floats:
    exact, room = np.asarray(hits, dtype=np.float64), np.asarray(size, dtype=np.float64)
    f1: Floats = np.divide(2 * exact, room, out=np.zeros_like(room), where=room > 0)
    return f1
