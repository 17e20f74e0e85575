"""Eager attention whose softmax is worked out in fp32, for bases whose own is worked out in the base's dtype.

On a CPU torch's softmax in bf16 takes up to four times as long as one in fp32 with its conversions: rows that are no
multiple of 32 long end one element at a time. As there, weights are kept in the base's dtype for the way back.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
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
        mask: [rows or 1, 1, length, length], added to the scores; None where every token may see every other.
        scaling: 1 / sqrt(features) by default.
        dropout: share of the weights in [0, 1).

    Returns:
        [rows, length, heads, features], and the weights [rows, heads, length, length], in the query's dtype.
    """
    scores = query @ key.transpose(2, 3) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if mask is not None:
        scores = scores + mask
    weights = cast(Tensor, _Softmax.apply(scores))  # type: ignore[no-untyped-call]
    weights = functional.dropout(weights, p=dropout, training=module.training)
    return (weights @ value).transpose(1, 2), weights


class _Softmax(torch.autograd.Function):
    """Over the last dimension, in fp32; saves its output in the dtype that it came in."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor) -> Tensor:
        weights = scores.softmax(dim=-1, dtype=torch.float32).to(scores.dtype)
        ctx.save_for_backward(weights)
        return weights

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (weights,) = ctx.saved_tensors
        return torch._softmax_backward_data(grad, weights, -1, weights.dtype)
