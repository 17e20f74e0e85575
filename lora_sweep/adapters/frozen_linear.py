"""Products with frozen weights: a linear layer's output, and its gradient by the input.

In fp32 on a CPU torch multiplies by MKL, which uses AVX-512 on Intel's processors only. Where another maker's processor
has it too, oneDNN does the same product, in the same precision, at twice the rate (benchmarks/packing/products.py).
"""

from __future__ import annotations

import platform
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_CPUINFO = Path("/proc/cpuinfo")


class FrozenLinear(nn.Linear):
    """`nn.Linear` whose weights never get gradients, multiplied by oneDNN in fp32 on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        if not _by_onednn(x, self.weight) or any(p.requires_grad for p in self.parameters()):
            return super().forward(x)
        return cast(Tensor, _Product.apply(x, self.weight, self.bias))  # type: ignore[no-untyped-call]


def freeze_linear(modules: Iterable[nn.Module]) -> None:
    """Make every plain linear layer among them a `FrozenLinear`, in place, where that is faster."""
    if onednn_is_faster():
        for module in modules:
            if type(module) is nn.Linear and module.weight.dtype is torch.float32:
                module.__class__ = FrozenLinear


def thaw_linear(modules: Iterable[nn.Module]) -> None:
    """Undo `freeze_linear`."""
    for module in modules:
        if type(module) is FrozenLinear:
            module.__class__ = nn.Linear  # type: ignore[assignment]


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b, without gradients by W and b.

    Args:
        x: (..., in).
        weight: [out, in], any strides.
        bias: [out].

    Returns:
        (..., out).
    """
    if _by_onednn(x, weight):
        return cast(Tensor, torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], ""))
    return nn.functional.linear(x, weight, bias)


@cache
def onednn_is_faster() -> bool:
    """Whether torch multiplies by MKL, and this processor has AVX-512, which MKL does not use."""
    return (
        torch.backends.cpu.get_cpu_capability() == "AVX512"
        and torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and platform.machine() == "x86_64"
        and _CPUINFO.exists()
        and "GenuineIntel" not in _CPUINFO.read_text()
    )


def _by_onednn(x: Tensor, weight: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype is weight.dtype is torch.float32 and onednn_is_faster() and x.numel() > 0


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.weight = weight
        return product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return product(grad, ctx.weight.T) if ctx.needs_input_grad[0] else None, None, None
