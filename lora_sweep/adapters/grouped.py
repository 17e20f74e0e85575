"""Products of groups of tokens, each with its own matrix.

On a Hopper GPU or a newer one a single kernel does all groups. Elsewhere groups of one size are a batched product, and
others are done one by one, which is also what the kernel is tested against.
"""

from __future__ import annotations

from collections.abc import Sized

import torch
from torch import Tensor
from torch.nn.functional import grouped_mm

from lora_sweep.adapters.bank import Rows
from lora_sweep.adapters.tokens import Groups


def product(x: Tensor, matrices: Tensor, groups: Groups) -> Tensor:
    """Each group's tokens times its matrix.

    Args:
        x: [tokens, k].
        matrices: [groups, k, n], any strides.
        groups: of the tokens.

    Returns:
        [tokens, n].
    """
    if _one_kernel(x, matrices):
        return grouped_mm(x, matrices, offs=groups.ends)
    if groups.equal:
        return torch.bmm(_batched(x, matrices), matrices).flatten(0, 1)
    out = x.new_empty(len(x), matrices.shape[2])
    for (start, stop), matrix in zip(groups.spans, matrices, strict=True):
        torch.mm(x[start:stop], matrix, out=out[start:stop])
    return out


def add_product(out: Tensor, x: Tensor, matrices: Tensor, groups: Groups) -> None:
    """Add each group's tokens [tokens, k] times its matrix [groups, k, n] to `out` [tokens, n]."""
    if _one_kernel(x, matrices):
        out += grouped_mm(x, matrices, offs=groups.ends)
        return
    if groups.equal:
        _batched(out, matrices).baddbmm_(_batched(x, matrices), matrices)
        return
    for (start, stop), matrix in zip(groups.spans, matrices, strict=True):
        out[start:stop].addmm_(x[start:stop], matrix)


def add_outer(into: Tensor, rows: Rows, left: Tensor, right: Tensor, groups: Groups) -> None:
    """Add left^T right, summed over each group's tokens, to some matrices.

    Args:
        into: fp32 [capacity, m, n].
        rows: which of them, one a group.
        left: [tokens, m].
        right: [tokens, n].
        groups: of the tokens.
    """
    if _one_kernel(left, right):
        into[rows.index] += grouped_mm(left.T, right, offs=groups.ends)
        return
    if groups.equal:
        into[rows.index] += torch.bmm(_batched(left, groups.spans).mT, _batched(right, groups.spans))
        return
    for (start, stop), number in zip(groups.spans, rows.numbers, strict=True):
        into[number] += left[start:stop].T @ right[start:stop]


def _batched(x: Tensor, groups: Sized) -> Tensor:
    """[groups, tokens of each, features], a view."""
    return x.view(len(groups), -1, x.shape[-1])


def has_kernel(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether one kernel does all groups: in bf16, on compute capability 9.0 on."""
    return device.type == "cuda" and dtype is torch.bfloat16 and torch.cuda.get_device_capability(device) >= (9, 0)


def _one_kernel(x: Tensor, other: Tensor) -> bool:
    # every side must be a multiple of 16 bytes
    return has_kernel(x.device, x.dtype) and all(size % 8 == 0 for size in (x.shape[-1], *other.shape[1:]))
