"""Conversations to pieces of text, each scored or not, by the model's chat template.

A template is a program, so where a message's content lands in its output is found by experiment: the conversation is
rendered with marks in place of the contents, which shows what the template writes around each content. Filling the
contents in must then give what the template really writes for the conversation; else the conversation is refused.

    <|im_start|>user\\n  Hi  <|im_end|>\\n<|im_start|>assistant\\n  Hello  <|im_end|>  \\n...
    ------------------- not scored ---------------------------- -- scored --------
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from lora_sweep.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Message = Mapping[str, Any]


class Piece(NamedTuple):
    """A stretch of an example's text.

    Attributes:
        text: never empty.
        scored: whether its tokens are to be predicted.
    """

    text: str
    scored: bool


Pieces = tuple[Piece, ...]


class ChatFormat:
    """How one tokenizer's chat template writes conversations.

    Attributes:
        close: what it writes after an assistant's last words (`<|im_end|>`), trailing white space aside; may be empty.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Learn the format.

        Raises:
            DataError: the template does not render a plain exchange of user and assistant.
        """
        self._tokenizer = tokenizer
        self._gaps: dict[str, list[str]] = {}
        place = f"chat template of {tokenizer.name_or_path or 'the tokenizer'}"
        exchange = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
        self.close = self._gaps_of(place, exchange)[-1].rstrip()

    def pieces(self, place: str, messages: Sequence[Message]) -> Pieces:
        """The conversation as text: the assistant's words and the end of its turns are scored, the rest is not.

        Text after the last assistant turn is left out, as nothing of it would be learnt or read.

        Args:
            place: of the conversation, for messages.
            messages: `role` and `content` each, further keys as the template knows them.

        Raises:
            DataError: the template refuses the conversation, or alters what stands in it.
        """
        gaps = self._gaps_of(place, messages)
        contents = _fill(gaps, [message["content"] for message in messages], self._render(place, messages))
        if contents is None:
            fix = "Prepare the texts yourself and give them as task.text, or as prompt and response."
            raise DataError(place, "must stand unchanged in what the chat template writes", None, fix)
        pieces: list[Piece] = []
        context = gaps[0]
        for message, content, gap in zip(messages, contents, gaps[1:], strict=True):
            if message["role"] != "assistant":
                context += content + gap
                continue
            # a blank before the answer belongs to its first token, as it does when the model generates
            blank = context[len(context.rstrip(" ")) :]
            if before := context.removesuffix(blank):
                pieces.append(Piece(before, False))
            close = self.close if gap.startswith(self.close) else ""
            pieces.append(Piece(blank + content + close, True))
            context = gap.removeprefix(close)
        return tuple(pieces)

    def _gaps_of(self, place: str, messages: Sequence[Message]) -> list[str]:
        """What the template writes before, between and after the contents."""
        others = [{key: value for key, value in message.items() if key != "content"} for message in messages]
        shape = json.dumps(others, sort_keys=True, default=str)
        if shape not in self._gaps:
            marks = [f"\ue000{number}\ue001" for number in range(len(messages))]
            rest = self._render(place, [{**m, "content": mark} for m, mark in zip(messages, marks, strict=True)])
            gaps = []
            for mark in marks:
                gap, found, rest = rest.partition(mark)
                if not found:
                    rule = "must be written whole and in order by the chat template"
                    raise DataError(place, rule, [message["role"] for message in messages])
                gaps.append(gap)
            self._gaps[shape] = [*gaps, rest]
        return self._gaps[shape]

    def _render(self, place: str, messages: Sequence[Message]) -> str:
        from jinja2 import TemplateError

        try:
            text = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=False)
        except (TemplateError, TypeError, ValueError, KeyError) as error:
            roles = [message["role"] for message in messages]
            raise DataError(place, f"must be a conversation that the chat template takes ({error})", roles) from None
        return str(text)


def _fill(gaps: Sequence[str], contents: Sequence[str], text: str) -> list[str] | None:
    """The contents as they stand in the text (templates may strip them); None where they do not fit."""
    if not text.startswith(gaps[0]):
        return None
    cursor, found = len(gaps[0]), []
    for content, gap in zip(contents, gaps[1:], strict=True):
        form = next((f for f in (content, content.strip()) if text.startswith(f + gap, cursor)), None)
        if form is None:
            return None
        found.append(form)
        cursor += len(form) + len(gap)
    return found if cursor == len(text) else None
