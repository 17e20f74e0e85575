"""Passes without padding: the blocks of a model see the tokens of all rows one after the other, and nothing else.

    padded     a a a a . │ b b . . . │ c c c c c      embeddings, attention, head: [rows, length, ...]
    unpadded   a a a a b b c c c c c                  all else in a block: [1, cells, ...]

A hook before a block takes the padding out, one after the last block puts it back, and an attention of our own gives
the model's own one padded rows. What a token sees does not change. That rests on how an architecture's blocks are
written, so it is done for those that the tests compare with padded passes, and tried once more on the model itself.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lora_sweep.adapters import Route, TrainedModule, to_device
from lora_sweep.adapters.tokens import Tokens
from lora_sweep.models import repeated_blocks, use_attention

_logger = logging.getLogger(__name__)

# fmt: off
KNOWN = frozenset({
    "bert", "camembert", "distilbert", "electra", "gemma", "gemma2", "gemma3_text", "gpt2", "gpt_neox", "granite",
    "llama", "mistral", "modernbert", "olmo2", "opt", "phi3", "qwen2", "qwen3", "roberta", "smollm3", "starcoder2",
    "xlm-roberta",
})
# fmt: on
"""Transformers' names of the architectures whose passes may go without padding."""
Read = Literal["first", "last"]
"""The one token of a row that a classifier's head reads: the first, or the last that is not the padding token."""

_ATTENTION = "lora_sweep_unpadded"
_MULTIPLE = 16  # tokens of an adapter
_MOST_FILL = 1 / 16  # of a part's tokens, to make its adapters' groups equal: one product in place of one for each
_BY_TOKEN = ("position_embeddings", "position_ids")
"""What models give a block beside the hidden states, by token: [rows or 1, length, ...]."""
_TRIED = np.array([3, 6, 1, 4])  # tokens of the rows that a model is tried with


@dataclass(frozen=True, eq=False)
class Unpadded:
    """Where the tokens of a padded batch stand when padding is left out.

    A cell holds a token; some hold the first one of their row once more, to fill an adapter's tokens up to a round
    number. Nothing comes of them.

    Attributes:
        tokens: the cells of each row.
        rows: of the batch; `length` is their padded one.
        places: int64 [cells], where in the padded batch, [rows * length], a cell is from.
        cells: int64 [rows * length], the cell of every place; the row's first where there is padding.
        padding: int64 [n], the places that are padding.
        fills: int64 [n], the cells that hold no token of their own.
        read: the token of each row that the head reads; None where it may read all.
        read_cells: int64 [rows], their cells; without `read` nobody asks.
        blank: what stands in the last block for what is not read.
    """

    tokens: Tokens
    rows: int
    length: int
    places: Tensor
    cells: Tensor
    padding: Tensor
    fills: Tensor
    read: Tokens | None
    read_cells: Tensor
    blank: float = 0.0
    _by_token: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    @classmethod
    def of(
        cls, lengths: np.ndarray, length: int, fill: np.ndarray, device: torch.device, reads: np.ndarray | None = None
    ) -> Unpadded | None:
        """Lay out a batch.

        Args:
            lengths: int64 [rows], tokens of each row.
            length: the padded one.
            fill: int64 [rows], cells to add to each row.
            device: the model's.
            reads: int64 [rows], the token of each row that the head reads; None where it may read all.

        Returns:
            None where nothing is gained.
        """
        counts = lengths + fill
        if counts.sum() >= len(lengths) * length:
            if reads is None:
                return None
            counts = np.full_like(lengths, length)
        tokens = Tokens(counts, device)
        starts, position = tokens.bounds[:-1], np.arange(length)
        within = np.arange(len(tokens)) - np.repeat(starts, counts)
        is_fill, is_padding = within >= np.repeat(lengths, counts), position >= lengths[:, None]
        places = np.repeat(np.arange(len(lengths)) * length, counts) + np.where(is_fill, 0, within)
        cells = starts[:, None] + np.where(is_padding, 0, position)
        return cls(
            tokens,
            len(lengths),
            length,
            to_device(places, device),
            to_device(cells.ravel(), device),
            to_device(np.nonzero(is_padding.ravel())[0], device),
            to_device(np.nonzero(is_fill)[0], device),
            None if reads is None else Tokens(np.ones_like(lengths), device, reads),
            to_device(starts if reads is None else starts + reads, device),
        )

    def is_padded(self, x: Tensor) -> bool:
        """Whether this is [rows, length, ...]."""
        return x.shape[:2] == (self.rows, self.length)

    def is_unpadded(self, x: Tensor) -> bool:
        """Whether this is [1, cells, ...]."""
        return x.shape[:2] == (1, len(self.tokens))

    def without(self, x: Tensor) -> Tensor:
        """[rows, length, ...] to [1, cells, ...]."""
        flat = x.flatten(0, 1)
        return (flat if self._is_full else _without(flat, self)).unsqueeze(0)

    def put_back(self, x: Tensor) -> Tensor:
        """[1, cells, ...] to [rows, length, ...]; padding repeats its row's first token."""
        flat = x.squeeze(0)
        return (flat if self._is_full else _put_back(flat, self)).view(self.rows, self.length, *x.shape[2:])

    def by_token(self, x: Tensor) -> Tensor:
        """`without` for what every block gets alike and nothing is learnt of: [rows or 1, length, ...]."""
        if id(x) not in self._by_token:
            rows = x.expand(self.rows, *x.shape[1:]).flatten(0, 1)
            self._by_token[id(x)] = x, rows.index_select(0, self.places).unsqueeze(0)
        return self._by_token[id(x)][1]

    @contextmanager
    def active(self) -> Iterator[None]:
        """Passes inside the block are made so."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)

    @property
    def _is_full(self) -> bool:
        return not len(self.padding) and not len(self.fills)


_current: ContextVar[Unpadded | None] = ContextVar("unpadded", default=None)


def current() -> Unpadded | None:
    """How the pass that is being made goes without padding; None where it does not."""
    return _current.get()


def fill_up(route: Route, lengths: np.ndarray) -> np.ndarray:
    """The cells that make an adapter's tokens a multiple of 16, and those of a bank equal where they nearly are.

    Few different shapes are few kernels to be made, and pieces of memory that fit again.

    Returns:
        int64 [rows], at the last row of each adapter.
    """
    fill = np.zeros_like(lengths)
    for part in route.parts:
        tokens = np.array([lengths[member.start : member.stop].sum() for member in part.members])
        cells = -(-tokens // _MULTIPLE) * _MULTIPLE
        if (cells.max() - cells).sum() <= _MOST_FILL * cells.sum():
            cells[:] = cells.max()
        fill[[member.stop - 1 for member in part.members]] = cells - tokens
    return fill


def read_tokens(read: Read, token_ids: np.ndarray, pad_id: int) -> np.ndarray:
    """The token of each row that a head reads, as Transformers finds it: int64 [rows].

    Args:
        read: which.
        token_ids: int64 [rows, length], padded on the right.
        pad_id: the padding token; a text may end with it too.
    """
    if read == "first":
        return np.zeros(len(token_ids), dtype=np.int64)
    others = token_ids != pad_id
    return np.where(others.any(axis=1), token_ids.shape[1] - 1 - others[:, ::-1].argmax(axis=1), 0)


def install_unpadding(model: nn.Module) -> bool:
    """Let a model make passes without padding.

    Returns:
        Whether it does. An architecture that is not known stays as it is, so does a model that trains a part of a block
        in full, and one whose answers change.
    """
    if not _is_known(model):
        return False
    blocks = repeated_blocks(model)
    before = cast(Any, model.config)._attn_implementation
    handles = [block.register_forward_pre_hook(_enter, with_kwargs=True) for block in blocks]
    handles.append(blocks[-1].register_forward_hook(_leave))
    try:
        expected = tried(model, None)
        use_attention(model, _ATTENTION, _attend)
        if agree(tried(model, tried_without(model)), expected):
            return True
        _logger.info("%s answers otherwise without padding: its passes are padded", type(model).__name__)
    except Exception as error:
        _logger.info("%s cannot do without padding: %s", type(model).__name__, error)
    for handle in handles:
        handle.remove()
    use_attention(model, before)
    return False


def _is_known(model: nn.Module) -> bool:
    config, blocks = cast(Any, model.config), repeated_blocks(model)
    own_code = not type(model).__module__.startswith("transformers.models.")
    by_name = getattr(config, "reorder_and_upcast_attn", False)  # GPT-2's, for an attention that is called eager
    in_full = any(isinstance(part, TrainedModule) for block in blocks for part in block.modules())
    return bool(blocks) and config.model_type in KNOWN and not (own_code or by_name or in_full)


def tried_without(model: nn.Module, read: Read | None = None) -> Unpadded | None:
    """The batch that a model is tried with, without padding."""
    ids, pad_id = _tried_ids(model), cast(Any, model.config).pad_token_id
    reads = None if read is None else read_tokens(read, ids, pad_id)
    device = next(model.parameters()).device
    return Unpadded.of(_TRIED, int(_TRIED.max()), np.zeros_like(_TRIED), device, reads)


def tried(model: nn.Module, unpadded: Unpadded | None) -> Tensor:
    """A model's logits of a few tokens: [tokens, ...] or [rows, classes]."""
    device = next(model.parameters()).device
    ids, is_token = to_device(_tried_ids(model), device), to_device(_is_tried(), device)
    token = _current.set(unpadded)
    try:
        with torch.no_grad():
            logits = cast(Tensor, model(input_ids=ids, attention_mask=is_token.long()).logits)
    finally:
        _current.reset(token)
    return logits[is_token] if logits.dim() == 3 else logits


def _is_tried() -> np.ndarray:
    return np.asarray(np.arange(_TRIED.max()) < _TRIED[:, None])


def _tried_ids(model: nn.Module) -> np.ndarray:
    """int64 [rows, length]; the last row's last token is the padding token."""
    config, is_token = cast(Any, model.config), _is_tried()
    choice = [token for token in range(min(config.vocab_size, 64)) if token != config.pad_token_id]
    ids = np.resize(np.array(choice, dtype=np.int64), is_token.shape)
    ids[~is_token] = ids[-1, _TRIED[-1] - 1] = config.pad_token_id
    return ids


def agree(found: Tensor, expected: Tensor) -> bool:
    """Whether logits are the same but for rounding."""
    if found.shape != expected.shape:
        return False
    tolerance = 1e-5 if expected.dtype is torch.float32 else 2e-2
    return torch.allclose(found, expected, rtol=0, atol=tolerance * float(expected.abs().max()))


def _enter(_block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
    """Before a block."""
    if (unpadded := current()) is None:
        return None
    by_token = {name: _by_token(unpadded, kwargs[name]) for name in _BY_TOKEN if kwargs.get(name) is not None}
    hidden = args[0] if args else kwargs["hidden_states"]
    if unpadded.is_padded(hidden):
        hidden = unpadded.without(hidden)
    if args:
        return (hidden, *args[1:]), kwargs | by_token
    return args, kwargs | by_token | {"hidden_states": hidden}


def _by_token(unpadded: Unpadded, given: Any) -> Any:
    if isinstance(given, tuple):
        return tuple(unpadded.by_token(tensor) for tensor in given)
    return unpadded.by_token(given)


def _leave(_block: nn.Module, _args: Any, output: Any) -> Any:
    """After the last block."""
    if (unpadded := current()) is None:
        return output
    hidden = output[0] if isinstance(output, tuple) else output
    if unpadded.is_unpadded(hidden):
        hidden = unpadded.put_back(hidden)
    return (hidden, *output[1:]) if isinstance(output, tuple) else hidden


def _attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **options: Any
) -> tuple[Tensor, Any]:
    """The model's own eager attention, on padded rows; see Transformers' `AttentionInterface`.

    Args:
        module: the attention.
        query: [1, heads, cells, features]; key and value alike, perhaps with fewer heads. Of padded rows where the pass
            is.
        mask: [rows or 1, 1, length, length], added to the scores.
        options: of the attention.

    Returns:
        [1, cells, heads, features], and what the model's attention returns beside it.
    """
    eager = cast(Any, sys.modules[type(module).__module__]).eager_attention_forward
    if (unpadded := current()) is None:
        return cast(tuple[Tensor, Any], eager(module, query, key, value, mask, **options))
    padded = (unpadded.put_back(x.transpose(1, 2)).transpose(1, 2) for x in (query, key, value))
    out, beside = eager(module, *padded, mask, **options)
    return unpadded.without(out), beside


def _without(x: Tensor, unpadded: Unpadded) -> Tensor:
    return cast(Tensor, _Without.apply(x, unpadded))  # type: ignore[no-untyped-call]


def _put_back(x: Tensor, unpadded: Unpadded) -> Tensor:
    return cast(Tensor, _PutBack.apply(x, unpadded))  # type: ignore[no-untyped-call]


class _Without(torch.autograd.Function):
    """[rows * length, ...] to [cells, ...]; padding has no gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, unpadded: Unpadded) -> Tensor:
        ctx.unpadded = unpadded
        return x.index_select(0, unpadded.places)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return grad.index_select(0, ctx.unpadded.cells).index_fill_(0, ctx.unpadded.padding, 0.0), None


class _PutBack(torch.autograd.Function):
    """[cells, ...] to [rows * length, ...]; fills have no gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, unpadded: Unpadded) -> Tensor:
        ctx.unpadded = unpadded
        return x.index_select(0, unpadded.cells)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return grad.index_select(0, ctx.unpadded.places).index_fill_(0, ctx.unpadded.fills, 0.0), None
