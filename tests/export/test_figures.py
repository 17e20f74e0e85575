"""Metrics of an adapter with intervals of their own."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lora_sweep.export.figures import figures_of
from reports.statistics import wilson


def test_every_metric_has_the_interval_of_its_own_figure() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    logits = rng.normal(size=(300, 3)) + 2 * np.eye(3)[labels]
    frame = pd.DataFrame({"example_id": [f"test:{i}" for i in range(300)], "split": "test", "step": 0, "label": labels})
    frame = frame.assign(prediction=logits.argmax(axis=1), logits=list(logits.astype(np.float32)))
    found = figures_of(frame)
    assert found.metrics["accuracy"] == (logits.argmax(axis=1) == labels).mean()
    assert found.bounds["accuracy"] == pytest.approx(wilson(found.metrics["accuracy"], 300))
    assert set(found.bounds) == {"accuracy", "macro_f1", "loss"}
    assert all(low < found.metrics[name] < high for name, (low, high) in found.bounds.items())
