"""Passes without padding: the blocks of a model see the tokens of all rows one after the other, and nothing else.

    padded     a a a a . │ b b . . . │ c c c c c      embeddings, attention, head: [rows, length, ...]
    unpadded   a a a a b b c c c c c                  all else in a block: [1, cells, ...]

A hook before a block takes the padding out, one after the last block puts it back, and an attention of our own gives
the model's eager one padded rows. What a token sees does not change. That rests on how an architecture's blocks are
written, so it is done for those that the tests compare with padded passes, and tried once more on the model itself.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from lora_sweep.adapters import TrainedModule, to_device
from lora_sweep.engine.attention import IN_BASE_DTYPE, attend
from lora_sweep.engine.unpadded import Read, Unpadded, current, read_tokens
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
_ATTENTION = "lora_sweep_unpadded"
_BY_TOKEN = ("position_embeddings", "position_ids")
"""What models give a block beside the hidden states, by token: [rows or 1, length, ...]."""
_TRIED = np.array([3, 6, 1, 4])  # tokens of the rows that a model is tried with


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
    with torch.no_grad(), nullcontext() if unpadded is None else unpadded.active():
        logits = cast(Tensor, model(input_ids=ids, attention_mask=is_token.long()).logits)
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
    """The model's eager attention, on padded rows; see Transformers' `AttentionInterface`.

    Args:
        module: the attention.
        query: [1, heads, cells, features]; key and value alike, perhaps with fewer heads. Of padded rows where the pass
            is.
        mask: [rows or 1, 1, length, length], added to the scores.
        options: of the attention.

    Returns:
        [1, cells, heads, features], and what the model's attention returns beside it.
    """
    eager = _eager(module, query.dtype)
    if (unpadded := current()) is None:
        return cast(tuple[Tensor, Any], eager(module, query, key, value, mask, **options))
    padded = (unpadded.put_back(x.transpose(1, 2)).transpose(1, 2) for x in (query, key, value))
    out, beside = eager(module, *padded, mask, **options)
    return unpadded.without(out), beside


def _eager(module: nn.Module, dtype: torch.dtype) -> Callable[..., Any]:
    """The architecture's own, or the same with a softmax in fp32 where its own is in a narrower dtype."""
    *_, architecture, _code = type(module).__module__.split(".")
    if dtype in (torch.bfloat16, torch.float16) and architecture in IN_BASE_DTYPE:
        return attend
    return cast(Callable[..., Any], cast(Any, sys.modules[type(module).__module__]).eager_attention_forward)
