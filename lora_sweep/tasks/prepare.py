"""The one way in: a task's configuration and a tokenizer to an encoded task."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from lora_sweep.tasks.buckets import choose_buckets
from lora_sweep.tasks.causal_lm import chat_format, encode_causal_lm, read_causal_lm
from lora_sweep.tasks.classification import encode_classification, read_classification
from lora_sweep.tasks.data import Table, read_tables
from lora_sweep.tasks.encoded import EncodedSplit, EncodedTask
from lora_sweep.tasks.splits import split_examples

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from lora_sweep.task_config import TaskConfig

logger = logging.getLogger(__name__)

Encoded = tuple[dict[str, EncodedSplit], tuple[str, ...], tuple[str, ...]]
"""Splits, labels, notes."""


def prepare_task(config: TaskConfig, tokenizer: PreTrainedTokenizerBase, seed: int) -> EncodedTask:
    """Read, check, split and tokenise the data.

    Args:
        config: the task; file paths absolute.
        tokenizer: the base model's; left as it was. Without a padding token rows are filled up with EOS, which no
            result depends on.
        seed: decides which examples are set aside: for the hold-out, and where `eval` or `test` is not given.

    Raises:
        DataError: anything wrong with the data, naming file, row and column.
    """
    tables = read_tables(config)
    if config.type == "classification":
        splits, labels, notes = _classification(tables, config, tokenizer, seed)
    else:
        splits, labels, notes = _causal_lm(tables, config, tokenizer, seed)
    for note in notes:
        logger.info(note)
    longest = max(int(split.lengths.max()) for split in splits.values())
    return EncodedTask(
        type=config.type,
        splits=splits,
        labels=labels,
        pad_id=_pad_id(tokenizer),
        max_length=config.max_length,
        buckets=choose_buckets(splits["train"].lengths, longest, config.max_length),
        notes=notes,
        sources={part: table.source for part, table in tables.items()},
    )


def _classification(
    tables: Mapping[str, Table], config: TaskConfig, tokenizer: PreTrainedTokenizerBase, seed: int
) -> Encoded:
    assert config.text is not None and config.label is not None
    examples, classes = read_classification(tables, config.text, config.label)
    parts, notes = split_examples(examples, seed, config.data.holdout)
    splits = {}
    for name, part in parts.items():
        splits[name], more = encode_classification(part, name, tokenizer, config.max_length, classes)
        notes += more
    return splits, classes, notes


def _causal_lm(
    tables: Mapping[str, Table], config: TaskConfig, tokenizer: PreTrainedTokenizerBase, seed: int
) -> Encoded:
    chat = chat_format(config, tokenizer)
    parts, notes = split_examples(read_causal_lm(tables, config, chat), seed, config.data.holdout)
    splits = {}
    for name, part in parts.items():
        splits[name], more = encode_causal_lm(part, name, tokenizer, config.max_length, chat)
        notes += more
    return splits, (), notes


def _pad_id(tokenizer: PreTrainedTokenizerBase) -> int:
    candidates = (tokenizer.pad_token_id, tokenizer.eos_token_id)
    return int(next((token for token in candidates if token is not None), 0))
