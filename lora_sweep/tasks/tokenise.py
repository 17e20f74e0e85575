"""Text to token ids, in batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BATCH = 4_096  # bounds the tokenizer's intermediate objects, some kB an example


def token_ids(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, specials: bool, max_length: int | None = None
) -> list[list[int]]:
    """Tokens of each text.

    Args:
        tokenizer: slow or fast.
        texts: [n].
        specials: add what the tokenizer adds around a text (BOS, CLS, SEP, ...).
        max_length: cut the text's end to this many tokens, specials included.
    """
    ids: list[list[int]] = []
    side = tokenizer.truncation_side
    tokenizer.truncation_side = "right"
    try:
        for begin in range(0, len(texts), BATCH):
            batch = tokenizer(
                list(texts[begin : begin + BATCH]),
                add_special_tokens=specials,
                padding=False,
                truncation=max_length is not None,
                max_length=max_length,
                return_attention_mask=False,
                return_token_type_ids=False,
                verbose=False,
            )
            ids.extend(batch["input_ids"])
    finally:
        tokenizer.truncation_side = side
    return ids


def affixes(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """The special tokens that the tokenizer writes before and after a text."""
    (bare,), (whole,) = token_ids(tokenizer, ["a"], specials=False), token_ids(tokenizer, ["a"], specials=True)
    for begin in range(len(whole) - len(bare) + 1):
        if whole[begin : begin + len(bare)] == bare:
            return whole[:begin], whole[begin + len(bare) :]
    return [], []
