"""Eager attention with a softmax in fp32, for bases whose own is in the base's dtype.

On a CPU torch's softmax in bf16 takes up to four times as long as one in fp32 with its conversions: rows that are no
multiple of 32 long end one element at a time. It is the more exact one too.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

IN_BASE_DTYPE = frozenset({"bert", "camembert", "distilbert", "electra", "gpt2", "roberta", "xlm_roberta"})
"""Transformers' packages of the architectures whose eager attention is this one but for its softmax."""


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_options: Any,
) -> tuple[Tensor, Tensor]:
    """softmax(scaling * query key^T + mask) value, as of Transformers' `AttentionInterface`.

    Args:
        module: the attention; drops only in training.
        query: [rows, heads, length, features]; key and value alike.
        mask: [rows or 1, 1, length, length], added to the scores.
        scaling: 1 / sqrt(features) by default.
        dropout: share of the weights in [0, 1).

    Returns:
        [rows, length, heads, features], and the weights [rows, heads, length, length].
    """
    scores = query @ key.transpose(2, 3) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if mask is not None:
        scores = scores + mask
    weights = functional.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    weights = functional.dropout(weights, p=dropout, training=module.training)
    return (weights @ value).transpose(1, 2), weights
