"""From an engine's outputs to metrics, baselines and the outcomes on every example."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from lora_sweep.tasks.encoded import EncodedSplit, EncodedTask

if TYPE_CHECKING:
    import pandas as pd

METRIC_MODES: dict[str, Literal["min", "max"]] = {
    "accuracy": "max",
    "loss": "min",
    "macro_f1": "max",
    "perplexity": "min",
}
"""Every metric, and whether larger or smaller is better."""

Floats = npt.NDArray[np.floating]
Integers = npt.NDArray[np.integer]


def classification_metrics(logits: Floats, labels: Integers) -> dict[str, float]:
    """Accuracy, macro F1 over all C classes (0 for a class neither present nor predicted), and mean NLL.

    Args:
        logits: [n, C], n at least 1; computed with in float64.
        labels: [n], in [0, C).
    """
    exact = logits.astype(np.float64)
    exact = exact - exact.max(axis=1, keepdims=True)
    nll = np.log(np.exp(exact).sum(axis=1)) - exact[np.arange(len(labels)), labels]
    return _agreement(logits.argmax(axis=1), labels, logits.shape[1]) | {"loss": float(nll.mean())}


def causal_lm_metrics(nll_sum: Floats, tokens: Integers) -> dict[str, float]:
    """Mean NLL of a scored token, `loss = sum(nll_sum) / sum(tokens)`, and `perplexity = exp(loss)` (may be inf).

    Args:
        nll_sum: [n], summed over each example's scored tokens, in nats.
        tokens: [n], how many those are; at least 1 in all.
    """
    loss = float(nll_sum.sum(dtype=np.float64) / tokens.sum())
    with np.errstate(over="ignore"):
        return {"loss": loss, "perplexity": float(np.exp(loss))}


def majority_baseline(task: EncodedTask, split: str) -> dict[str, float]:
    """What knowing the training labels alone gives: always the most frequent class (the first of equals).

    The loss is that of predicting the training frequencies with add-one smoothing.

    Args:
        task: classification; for causal-lm there is no such baseline and the result is empty.
        split: where to measure.
    """
    train, labels = task.splits["train"].labels, task.splits[split].labels
    if train is None or labels is None:
        return {}
    counts = np.bincount(train, minlength=len(task.labels))
    log_frequencies = np.log((counts + 1) / (counts + 1).sum())
    predictions = np.full(len(labels), counts.argmax())
    return _agreement(predictions, labels, len(counts)) | {"loss": float(-log_frequencies[labels].mean())}


def outcomes_frame(
    split: EncodedSplit,
    step: int,
    *,
    logits: Floats | None = None,
    nll_sum: Floats | None = None,
    tokens: Integers | None = None,
) -> pd.DataFrame:
    """One row per example of the split, in its order, with the columns of `RUN/outcomes/TRIAL_ID.parquet`.

    Args:
        split: the examples.
        step: the training step that was evaluated.
        logits: [n, C], for classification; then `label` and `prediction` are class indices and `logits` fp32 [C].
        nll_sum: [n], for causal-lm.
        tokens: [n], for causal-lm: scored tokens.

    Raises:
        ValueError: the outputs do not fit the split.
    """
    import pandas as pd

    frame = pd.DataFrame({"example_id": split.example_ids.astype(object), "split": split.name, "step": step})
    if split.labels is not None and logits is not None and len(logits) == len(split):
        predictions = logits.argmax(axis=1).astype(np.int64)
        return frame.assign(label=split.labels, prediction=predictions, logits=list(logits.astype(np.float32)))
    if nll_sum is not None and tokens is not None and len(nll_sum) == len(tokens) == len(split):
        return frame.assign(nll_sum=nll_sum.astype(np.float64), tokens=tokens.astype(np.int64))
    raise ValueError(
        f"give logits [{len(split)}, C] (classification), or nll_sum and tokens [{len(split)}] (causal-lm)"
    )


def _agreement(predictions: Integers, labels: Integers, classes: int) -> dict[str, float]:
    from sklearn.metrics import f1_score  # half a second to import

    f1 = f1_score(labels, predictions, labels=np.arange(classes), average="macro", zero_division=0)
    return {"accuracy": float((predictions == labels).mean()), "macro_f1": float(f1)}
