"""Synthetic tasks: random tokens, since the time of a step does not depend on which tokens they are."""

from __future__ import annotations

import numpy as np

from lora_sweep.tasks.buckets import choose_buckets
from lora_sweep.tasks.encoded import EncodedSplit, EncodedTask, TaskType

LABELS = ("a", "b", "c")


def synthetic_task(
    kind: TaskType, vocabulary: int, length: int, mixed: bool = False, examples: int = 1024, seed: int = 0
) -> EncodedTask:
    """Random examples, every token but the first a target where it is causal-lm.

    Args:
        kind: `classification` or `causal-lm`.
        vocabulary: token ids are below it.
        length: tokens of every row; of the longest where lengths are mixed.
        mixed: lengths uniform from a quarter of `length` to `length`, in buckets as for real data.
        examples: in the training part; the other parts have an eighth.
        seed: of the tokens and lengths.
    """
    rng = np.random.default_rng(seed)
    sizes = {"train": examples, "eval": examples // 8, "test": examples // 8}
    lengths = {
        part: rng.integers(length // 4, length + 1, size) if mixed else np.full(size, length)
        for part, size in sizes.items()
    }
    splits = {part: _split(part, kind, vocabulary, lengths[part], rng) for part in sizes}
    buckets = choose_buckets(lengths["train"], length, length) if mixed else (length,)
    return EncodedTask(
        type=kind,
        splits=splits,
        labels=LABELS if kind == "classification" else (),
        pad_id=0,
        max_length=length,
        buckets=buckets,
        notes=(),
        sources={},
    )


def _split(part: str, kind: TaskType, vocabulary: int, lengths: np.ndarray, rng: np.random.Generator) -> EncodedSplit:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    tokens = rng.integers(3, vocabulary, offsets[-1], dtype=np.int32)
    scored = np.ones(offsets[-1], dtype=bool)
    scored[offsets[:-1]] = False
    classification = kind == "classification"
    return EncodedSplit(
        name=part,
        token_ids=tokens,
        offsets=offsets,
        labels=rng.integers(0, len(LABELS), len(lengths)) if classification else None,
        scored=None if classification else scored,
        example_ids=np.array([f"{part}-{number}" for number in range(len(lengths))]),
    )
