"""Language modelling: plain texts, prompts with responses, or conversations.

| columns | becomes | scored |
|---|---|---|
| text | BOS (where the tokenizer writes one) text EOS | all but the first token |
| prompt, response | the chat template's exchange of user and assistant | response and the end of its turn |
| ... without a chat template | BOS prompt line-break response EOS | response and EOS |
| messages | the chat template's conversation | assistant turns and their ends |

Each stretch of text is tokenised by itself and the tokens are joined, so the tokens of what is not scored are exactly
those of the prompt alone, and no token is half scored. The end of a turn is what the template closes it with (such as
`<|im_end|>`); where it closes it with nothing, EOS ends the example.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lora_sweep.errors import DataError
from lora_sweep.tasks.chat import ChatFormat, Piece, Pieces
from lora_sweep.tasks.data import Table, check_text
from lora_sweep.tasks.encoded import EncodedSplit, flatten
from lora_sweep.tasks.splits import Examples
from lora_sweep.tasks.tokenise import affixes, token_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from lora_sweep.task_config import TaskConfig


def read_causal_lm(tables: Mapping[str, Table], config: TaskConfig, chat: ChatFormat | None) -> dict[str, Examples]:
    """Check the tables and divide each example into what is scored and what is not.

    Args:
        tables: by part.
        config: says which columns to use.
        chat: of `chat_format`.

    Raises:
        DataError: a bad text or conversation.
    """
    parts = {}
    for part, table in tables.items():
        pieces = _pieces(table, config, chat)
        texts = ["".join(piece.text for piece in example) for example in pieces]
        parts[part] = Examples(table.source.path, table.ids(), texts, pieces=pieces)
    return parts


def chat_format(config: TaskConfig, tokenizer: PreTrainedTokenizerBase) -> ChatFormat | None:
    """The chat template's format where the task uses it; None for plain text.

    Raises:
        DataError: `messages` without a chat template.
    """
    if config.text is not None:
        return None
    if getattr(tokenizer, "chat_template", None):
        return ChatFormat(tokenizer)
    if config.messages is not None:
        name = tokenizer.name_or_path or "the tokenizer"
        fix = "Use an instruction-tuned model, or give task.prompt and task.response instead."
        raise DataError("task.messages", f"needs a chat template, and {name} has none", None, fix)
    return None


def encode_causal_lm(
    examples: Examples, name: str, tokenizer: PreTrainedTokenizerBase, max_length: int, chat: ChatFormat | None
) -> tuple[EncodedSplit, tuple[str, ...]]:
    """Tokenise, mark what is scored, cut at `max_length`, and drop examples with nothing left to score.

    Args:
        examples: one part, with pieces.
        name: of the part.
        tokenizer: slow or fast.
        max_length: most tokens of an example, BOS and EOS included.
        chat: None for plain text, framed by BOS and EOS here.

    Raises:
        DataError: more than half of the examples have nothing left to score.
    """
    rows, masks = _tokens_and_masks(examples.pieces or (), tokenizer, chat)
    truncated = sum(len(row) > max_length for row in rows)
    kept = [index for index, mask in enumerate(masks) if any(mask[1:max_length])]
    dropped = len(rows) - len(kept)
    if 2 * dropped > len(rows):
        rule = f"must keep tokens to score within task.max_length = {max_length}"
        value = f"{dropped:,} of {len(rows):,} {name} examples without any"
        raise DataError(examples.source, rule, value, "Raise task.max_length.")
    tokens, offsets = flatten([rows[index][:max_length] for index in kept])
    scored, _ = flatten([[False, *masks[index][1:max_length]] for index in kept])
    ids = np.array([examples.ids[index] for index in kept])
    notes = []
    if truncated:
        notes.append(
            f"{truncated:,} of {len(rows):,} {name} examples were cut at {max_length} tokens (task.max_length)."
        )
    if dropped:
        notes.append(
            f"{dropped:,} of {len(rows):,} {name} examples were dropped: nothing to score in {max_length} tokens."
        )
    return EncodedSplit(name, tokens, offsets, None, scored.astype(np.bool_), ids), tuple(notes)


def _tokens_and_masks(
    examples: Sequence[Pieces], tokenizer: PreTrainedTokenizerBase, chat: ChatFormat | None
) -> tuple[list[list[int]], list[list[bool]]]:
    """Tokens of each example, and which of them are scored."""
    bos, suffix = affixes(tokenizer)
    eos = suffix if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    before = bos if chat is None else []
    after = eos if chat is None or not chat.close else []
    stretches = iter(token_ids(tokenizer, [piece.text for example in examples for piece in example], specials=False))
    rows, masks = [], []
    for example in examples:
        row, mask = list(before), [False] * len(before)
        for piece in example:
            ids = next(stretches)
            row += ids
            mask += [piece.scored] * len(ids)
        rows.append(row + after)
        masks.append(mask + [True] * len(after))
    return rows, masks


def _pieces(table: Table, config: TaskConfig, chat: ChatFormat | None) -> list[Pieces]:
    if config.text is not None:
        return [(Piece(text, True),) for text in table.texts(config.text)]
    if config.messages is not None:
        return _conversations(table, config.messages, chat)
    assert config.prompt is not None and config.response is not None
    return _exchanges(table, config.prompt, config.response, chat)


def _exchanges(table: Table, prompt: str, response: str, chat: ChatFormat | None) -> list[Pieces]:
    pieces: list[Pieces] = []
    for index, (asked, answered) in enumerate(zip(table.texts(prompt), table.texts(response), strict=True)):
        if chat is None:
            pieces.append((Piece(asked + "\n", False), Piece(answered, True)))
            continue
        messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
        pieces.append(chat.pieces(table.place(index, prompt), messages))
    return pieces


def _conversations(table: Table, column: str, chat: ChatFormat | None) -> list[Pieces]:
    assert chat is not None
    pieces = []
    for index, value in enumerate(table.columns[column]):
        place = table.place(index, column)
        pieces.append(chat.pieces(place, _read_messages(place, value)))
    return pieces


def _read_messages(place: str, value: object) -> list[dict[str, Any]]:
    """A conversation out of a list, or out of JSON text (as a csv holds it)."""
    if isinstance(value, str) and value.strip():
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise DataError(place, f"must be a JSON list of messages ({error})", value) from None
    if not isinstance(value, list) or not value:
        raise DataError(place, "must be a list of messages, each with role and content", value)
    messages = [_read_message(f"{place}, message {number}", item) for number, item in enumerate(value, start=1)]
    if not any(message["role"] == "assistant" for message in messages):
        rule, roles = "must have at least one assistant message to learn from", [m["role"] for m in messages]
        raise DataError(place, rule, roles, "Remove the row.")
    return messages


def _read_message(place: str, item: object) -> dict[str, Any]:
    if not isinstance(item, dict) or not {"role", "content"} <= item.keys():
        raise DataError(place, "must have role and content", item)
    check_text(f"{place}, role", item["role"])
    if item["role"] != "system" or item["content"] != "":
        check_text(f"{place}, content", item["content"])
    return {key: part for key, part in item.items() if part is not None}  # parquet fills absent keys with None
