"""The parts of the data: what stands in no file of its own is set aside, seeded and stratified.

Training data trains, `eval` steers, `test` is for headline figures only; so all three always exist. `holdout` is a part
of the training data that nobody trains on, for what is measured or tuned after the sweep.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from lora_sweep.errors import DataError
from lora_sweep.tasks.chat import Pieces
from lora_sweep.tasks.data import PARTS

EVAL_SHARE = 0.2
EVAL_LIMIT = 2_000
HOLDOUT = "holdout"
HOLDOUT_LIMIT = 512

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Examples:
    """Checked examples, not yet tokenised, one entry an example in every list.

    Attributes:
        source: the file, or the hub data set's name.
        ids: stable names.
        texts: the whole text, by which duplicates are found.
        labels: class names (classification), else None.
        pieces: scored and unscored text in order (causal-lm), else None.
    """

    source: str
    ids: Sequence[str]
    texts: Sequence[str]
    labels: Sequence[str] | None = None
    pieces: Sequence[Pieces] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, indices: Indices) -> Examples:
        """The examples at these positions."""
        return Examples(
            source=self.source,
            ids=[self.ids[i] for i in indices],
            texts=[self.texts[i] for i in indices],
            labels=None if self.labels is None else [self.labels[i] for i in indices],
            pieces=None if self.pieces is None else [self.pieces[i] for i in indices],
        )


def split_examples(
    parts: Mapping[str, Examples], seed: int, holdout: float = 0.0
) -> tuple[dict[str, Examples], tuple[str, ...]]:
    """Complete the parts to `train`, `eval`, `test` and, where some is asked for, `holdout`.

    Without `eval`, 20 % of the training data (at most 2,000 examples) is set aside for it; without `test`, half of
    `eval`; and last the hold-out, so that its size changes neither. All are stratified by label, and every class keeps
    at least one training example.

    Args:
        parts: `train`, and `eval` and `test` where the data has them.
        seed: decides which examples are set aside.
        holdout: share of what is left to train on, in [0, 1); at most 512 examples, and none when it rounds to 0.

    Returns:
        The parts, each in the order of its file, and notes on what was decided and found.

    Raises:
        DataError: too few examples to set some aside.
    """
    done, notes = dict(parts), []
    if "eval" not in done:
        done["train"], done["eval"] = _set_eval_aside(done["train"], seed)
        notes.append(
            f"No data.eval: {len(done['eval']):,} of {len(parts['train']):,} training examples were set aside "
            f"(seed {seed})" + (" as eval." if "test" in done else " as eval and test.")
        )
    if "test" not in done:
        whole = len(done["eval"])
        done["eval"], done["test"] = _halve(done["eval"], seed)
        notes.append(
            f"No data.test: {len(done['test']):,} of {whole:,} eval examples were set aside as test (seed {seed})."
        )
    done = {part: done[part] for part in PARTS}
    whole = len(done["train"])
    done["train"], held_out = _set_holdout_aside(done["train"], seed, holdout)
    if len(held_out):
        done[HOLDOUT] = held_out
        notes.append(
            f"{len(held_out):,} of {whole:,} train examples were set aside as hold-out (seed {seed}): no trial trains "
            "on them."
        )
    return done, (*notes, *overlap_notes({part: examples.texts for part, examples in done.items()}))


def overlap_notes(texts: Mapping[str, Iterable[str]]) -> list[str]:
    """A note for every two parts that share examples (the same text but for case, width and white space)."""
    keys = {part: [normalised(text) for text in of_part] for part, of_part in texts.items()}
    notes = []
    for first, second in combinations(keys, 2):
        known = set(keys[first])
        shared = sum(key in known for key in keys[second])
        if shared:
            notes.append(f"{shared:,} of {len(keys[second]):,} {second} examples stand in {first} too (same text).")
    return notes


def normalised(text: str) -> str:
    """The text without differences in case, width (NFKC) and white space."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def pick_stratified(
    labels: Sequence[str] | None, total: int, count: int, random: np.random.Generator, keep: int = 0
) -> Indices:
    """Draw `count` of `total` positions, each label in proportion (largest remainders).

    Args:
        labels: [total]; None for one stratum.
        total: how many there are.
        count: how many to draw; fewer come back when `keep` forbids more.
        random: decides which.
        keep: positions of each label that must stay.

    Returns:
        Ascending positions.
    """
    _, strata = np.unique(np.asarray(labels if labels is not None else [""] * total), return_inverse=True)
    sizes = np.bincount(strata)
    most = np.maximum(sizes - keep, 0)
    share = count * sizes / total
    quota = np.minimum(np.floor(share).astype(np.int64), most)
    by_remainder = np.argsort(quota - share, kind="stable")
    while (missing := count - int(quota.sum())) > 0 and (room := [s for s in by_remainder if quota[s] < most[s]]):
        quota[room[:missing]] += 1
    order = random.permutation(total)
    picked = [order[strata[order] == stratum][:take] for stratum, take in enumerate(quota)]
    return np.sort(np.concatenate(picked))


def _set_eval_aside(train: Examples, seed: int) -> tuple[Examples, Examples]:
    count = min(EVAL_LIMIT, max(2, round(EVAL_SHARE * len(train))))
    picked = pick_stratified(train.labels, len(train), count, np.random.default_rng([seed, 0]), keep=1)
    if len(picked) < 2 or len(picked) == len(train):
        fix = "Give more training data, or files for eval and test."
        raise DataError(train.source, "must hold enough examples to set some aside for eval and test", len(train), fix)
    return _divide(train, picked)


def _set_holdout_aside(train: Examples, seed: int, share: float) -> tuple[Examples, Examples]:
    count = min(HOLDOUT_LIMIT, round(share * len(train)))
    picked = pick_stratified(train.labels, len(train), count, np.random.default_rng([seed, 2]), keep=1)
    return _divide(train, picked)


def _halve(whole: Examples, seed: int) -> tuple[Examples, Examples]:
    if len(whole) < 2:
        fix = "Give more, or a test file."
        raise DataError(whole.source, "must hold at least 2 eval examples to set half aside as test", len(whole), fix)
    return _divide(whole, pick_stratified(whole.labels, len(whole), len(whole) // 2, np.random.default_rng([seed, 1])))


def _divide(examples: Examples, picked: Indices) -> tuple[Examples, Examples]:
    """(the rest, the picked)."""
    rest = np.setdiff1d(np.arange(len(examples)), picked)
    return examples.take(rest), examples.take(picked)
