"""What every trial answered on every example, as matrices of trials x examples, and the metrics on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from reports.statistics.normal import Bools, Floats
from reports.statistics.samples import Integers, MacroF1Sample, MeanSample, RatioSample, Sample


@dataclass(frozen=True)
class Outcomes:
    """K trials on the same n examples of one part of the data.

    Attributes:
        split: the part.
        trial_ids: K names.
        example_ids: [n].
        labels: [n]; None for language models, and where no more is known than what was right.
        predictions: [K, n]; None as for labels.
        hits: [K, n], what was right; None for language models.
        nll: [K, n], each example's negative log-likelihood in nats (summed over its tokens for language models); None
            where it is not on record.
        tokens: [n], scored tokens, above 0; None for classification.
        classes: C; 0 for language models.
        dropped: examples left out because some trial lacks them.
        left_out: reason by trial that could not be aligned.
        misfits: those left out because their examples are others than those of the rest.
    """

    split: str
    trial_ids: tuple[str, ...] = ()
    example_ids: npt.NDArray[np.object_] = field(default_factory=lambda: np.empty(0, dtype=object))
    labels: Integers | None = None
    predictions: Integers | None = None
    hits: Bools | None = None
    nll: Floats | None = None
    tokens: Integers | None = None
    classes: int = 0
    dropped: int = 0
    left_out: Mapping[str, str] = field(default_factory=dict)
    misfits: tuple[str, ...] = ()

    def without(self, reasons: Mapping[str, str]) -> Outcomes:
        """The same without the trials that `reasons` names."""
        kept = [place for place, name in enumerate(self.trial_ids) if name not in reasons]
        return replace(
            self,
            trial_ids=tuple(self.trial_ids[place] for place in kept),
            predictions=None if self.predictions is None else self.predictions[kept],
            hits=None if self.hits is None else self.hits[kept],
            nll=None if self.nll is None else self.nll[kept],
            left_out={**self.left_out, **reasons},
        )

    def sample(self, metric: str) -> Sample | None:
        """One metric on these examples; None when they do not give it."""
        if not self.trial_ids or not len(self.example_ids):
            return None
        if self.tokens is not None:
            return self._language(metric, self.tokens)
        if metric == "accuracy" and self.hits is not None:
            return MeanSample(self.hits.astype(np.float32), "share", binary=True)
        if metric == "loss" and self.nll is not None:
            return MeanSample(self.nll, "loss")
        if metric == "macro_f1" and self.labels is not None and self.predictions is not None:
            return MacroF1Sample(self.labels, self.predictions, self.classes)
        return None

    def _language(self, metric: str, tokens: Integers) -> Sample | None:
        if self.nll is None or metric not in ("loss", "perplexity"):
            return None
        kind: Any = metric
        return RatioSample(self.nll, tokens.astype(np.float64), kind)
