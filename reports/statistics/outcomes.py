"""What every trial answered on every example, as matrices of trials x examples, and the metrics on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from reports.statistics.normal import Floats
from reports.statistics.samples import Integers, MacroF1Sample, MeanSample, RatioSample, Sample


@dataclass(frozen=True)
class Outcomes:
    """K trials on the same n examples of one part of the data.

    Attributes:
        split: the part.
        trial_ids: K names.
        example_ids: [n].
        labels: [n]; None for language models.
        predictions: [K, n]; None for language models.
        nll: [K, n], each example's negative log-likelihood in nats (summed over its tokens for language models).
        tokens: [n], scored tokens, above 0; None for classification.
        classes: C; 0 for language models.
        dropped: examples left out because some trial lacks them.
        left_out: reason by trial that could not be aligned.
    """

    split: str
    trial_ids: tuple[str, ...] = ()
    example_ids: npt.NDArray[np.object_] = field(default_factory=lambda: np.empty(0, dtype=object))
    labels: Integers | None = None
    predictions: Integers | None = None
    nll: Floats = field(default_factory=lambda: np.empty((0, 0)))
    tokens: Integers | None = None
    classes: int = 0
    dropped: int = 0
    left_out: Mapping[str, str] = field(default_factory=dict)

    def without(self, reasons: Mapping[str, str]) -> Outcomes:
        """The same without the trials that `reasons` names."""
        kept = [place for place, name in enumerate(self.trial_ids) if name not in reasons]
        return replace(
            self,
            trial_ids=tuple(self.trial_ids[place] for place in kept),
            predictions=None if self.predictions is None else self.predictions[kept],
            nll=self.nll[kept],
            left_out={**self.left_out, **reasons},
        )

    def sample(self, metric: str) -> Sample | None:
        """One metric on these examples; None when they do not give it."""
        if not self.trial_ids or not len(self.example_ids):
            return None
        if self.labels is not None and self.predictions is not None:
            return _classification(metric, self.labels, self.predictions, self.nll, self.classes)
        if self.tokens is not None and metric in ("loss", "perplexity"):
            kind: Any = metric
            return RatioSample(self.nll, self.tokens.astype(np.float64), kind)
        return None


def _classification(metric: str, labels: Integers, predictions: Integers, nll: Floats, classes: int) -> Sample | None:
    if metric == "accuracy":
        return MeanSample((predictions == labels).astype(np.float32), "share", binary=True)
    if metric == "loss":
        return MeanSample(nll, "loss")
    if metric == "macro_f1":
        return MacroF1Sample(labels, predictions, classes)
    return None
