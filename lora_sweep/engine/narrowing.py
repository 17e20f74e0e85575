"""The last block computes what is read of it: a classifier's head reads one token of a row.

Attention needs keys and values of all tokens; what follows it does not, and that is most of a block's arithmetic.
Modules of the last block that work token by token see the tokens that are read, and give nothing for the others:

    [1, cells, features]  ->  [rows, 1, features]  module  [rows, 1, features]  ->  [1, cells, features], else blank

Which modules and which token is found by trial: NaN for all others must not reach the logits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, get_args

import torch
from torch import Tensor, nn

from lora_sweep.engine.unpadded import Read, Unpadded, current
from lora_sweep.engine.unpadding import agree, tried, tried_without
from lora_sweep.models import repeated_blocks


def install_narrowing(model: nn.Module) -> Read | None:
    """Let the last block of a classifier that makes passes without padding compute what is read alone.

    Returns:
        The token that its head reads; None where that is not one, and nothing changes.
    """
    expected = tried(model, None)
    reads: tuple[Read, ...] = get_args(Read)
    for read in reads:
        trial = tried_without(model, read)
        assert trial is not None
        if list(_narrow(model, repeated_blocks(model)[-1], replace(trial, blank=float("nan")), expected)):
            return read
    return None


def _narrow(model: nn.Module, module: nn.Module, trial: Unpadded, expected: Tensor) -> Iterator[nn.Module]:
    """The largest modules inside of one that bear it, hooks in place."""
    for child in module.children():
        if not any(True for _ in child.children()):
            continue  # a linear layer may be wrapped by and by
        calls: list[None] = []
        counting = child.register_forward_hook(lambda *_, calls=calls: calls.append(None))
        handles = child.register_forward_pre_hook(_take), child.register_forward_hook(_spread)
        try:
            found = tried(model, trial)
        except Exception:  # it mixes tokens
            found = torch.full_like(expected, torch.nan)
        counting.remove()
        if calls and agree(found, expected):
            yield child
            continue
        for handle in handles:
            handle.remove()
        yield from _narrow(model, child, trial, expected)


def _take(_module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """Of what a module gets, what is read: [1, cells, features] to [rows, 1, features]."""
    if (unpadded := current()) is None or unpadded.read is None:
        return None
    return tuple(_read(unpadded, arg) for arg in args)


def _read(unpadded: Unpadded, given: Any) -> Any:
    if not (isinstance(given, Tensor) and unpadded.is_unpadded(given)):
        return given
    return given.squeeze(0).index_select(0, unpadded.read_cells).unsqueeze(1)


def _spread(_module: nn.Module, _args: Any, output: Any) -> Any:
    """What a module gives, at the cells that are read: [rows, 1, features] to [1, cells, features]."""
    if (unpadded := current()) is None or unpadded.read is None:
        return output
    blank = output.new_full((len(unpadded.tokens), output.shape[-1]), unpadded.blank)
    return blank.index_copy(0, unpadded.read_cells, output.squeeze(1)).unsqueeze(0)
