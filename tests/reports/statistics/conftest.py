"""Outcomes of simulated trials, in memory and as files of a run folder."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest


def build_outcomes(
    hits: np.ndarray, labels: np.ndarray, split: str = "eval", step: int = 200, classes: int = 3
) -> pd.DataFrame:
    """Outcomes with the given hits: a miss predicts the next class."""
    predictions = np.where(hits, labels, (labels + 1) % classes)
    logits = np.eye(classes)[predictions] * 2.0
    return pd.DataFrame(
        {
            "example_id": [f"{split}:{i}" for i in range(len(labels))],
            "split": split,
            "step": step,
            "label": labels,
            "prediction": predictions,
            "logits": list(logits.astype(np.float32)),
        }
    )


def build_language(nll: np.ndarray, tokens: np.ndarray, split: str = "eval", step: int = 200) -> pd.DataFrame:
    """Outcomes of a language model."""
    names = [f"{split}:{i}" for i in range(len(tokens))]
    return pd.DataFrame({"example_id": names, "split": split, "step": step, "nll_sum": nll, "tokens": tokens})


@pytest.fixture
def make_outcomes() -> Callable[..., pd.DataFrame]:
    return build_outcomes


@pytest.fixture
def make_language() -> Callable[..., pd.DataFrame]:
    return build_language
