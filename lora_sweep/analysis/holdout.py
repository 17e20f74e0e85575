"""A part of the training data for what is tuned or measured after the sweep.

`eval` steers the sweep and `test` gives the headline figures, so neither may decide where ranks go. A sweep sets a
hold-out aside (`task.data.holdout`). Where a run has none, a seeded part of what its trials trained on stands in: a
loss there is a training loss, fit to compare layers, not to judge an adapter.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lora_sweep.tasks import HOLDOUT, EncodedSplit, EncodedTask

HELD_OUT = "No trial trained on these examples."
TRAINED_ON = "The trials trained on these examples: losses here compare layers and do not judge an adapter."


def holdout_note(task: EncodedTask) -> str:
    """What a loss on the task's hold-out, or on what stands in for it, means."""
    return HELD_OUT if HOLDOUT in task.splits else TRAINED_ON


def with_holdout(task: EncodedTask, seed: int, examples: int) -> EncodedTask:
    """The task with a split `holdout`: its own, or else that many training examples (or all), drawn by the seed."""
    if HOLDOUT in task.splits:
        return task
    train = task.splits["train"]
    rng = np.random.default_rng([seed, 0x401D])
    chosen = np.sort(rng.permutation(len(train))[:examples])
    return replace(task, splits={**task.splits, HOLDOUT: take(train, chosen, HOLDOUT)})


def take(split: EncodedSplit, indices: np.ndarray, name: str) -> EncodedSplit:
    """Some examples of a split as a split of its own, in the order of `indices`, int64 [n]."""
    lengths = split.lengths[indices]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    # token t of the new split stands at the same distance from its example's start as in the old one
    where = np.arange(offsets[-1]) + np.repeat(split.offsets[indices] - offsets[:-1], lengths)
    return EncodedSplit(
        name=name,
        token_ids=split.token_ids[where],
        offsets=offsets,
        labels=None if split.labels is None else split.labels[indices],
        scored=None if split.scored is None else split.scored[where],
        example_ids=split.example_ids[indices],
    )
