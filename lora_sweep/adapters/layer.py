"""LoRA on one frozen linear layer, for one adapter or for a pack of them.

    x ──────────────── W0 ─────────────── + ── h
     └─ dropout ── A [r, in] ── B [out, r] ┘ * alpha / r

h = W0 x + (alpha / r) B A dropout(x) (arXiv 2106.09685, section 4.1). B starts at zero, so that a new adapter leaves
the base's output as it was. In a pack every segment of rows has its own A, B, r, alpha and dropout; one product with
W0 serves them all. Rows never mix: what one adapter's rows hold, NaN included, cannot reach another's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lora_sweep.adapters.biases import add_biases
from lora_sweep.adapters.routing import Routing, Segment
from lora_sweep.errors import AdapterStateError


@dataclass(frozen=True)
class LoraWeights:
    """One adapter at one layer.

    Attributes:
        a: fp32 [rank, in].
        b: fp32 [out, rank].
        rounded_a: `a` in the base's dtype, used in products with activations; `rounded_b` likewise.
        scaling: alpha / rank.
        dropout: probability in [0, 1).
        bias: fp32 [out], trained in place of the base's; None where the base's is kept or the layer has none.
    """

    a: Tensor
    b: Tensor
    rounded_a: Tensor
    rounded_b: Tensor
    scaling: float
    dropout: float
    bias: Tensor | None = None

    def delta(self) -> Tensor:
        """The update of the weight, scaling * B A: fp32 [out, in]."""
        return self.scaling * (self.b.detach() @ self.a.detach())


class LoraLinear(nn.Module):
    """A frozen linear layer with the adapters of many slots on it.

    Wraps `nn.Linear` (weight [out, in]) and GPT-2's `Conv1D` (weight [in, out]). Input (..., in), output (..., out);
    the first dimension is cut into the routing's segments, and rows without an adapter here get the base's output.

    Args:
        base: the layer; its weights are frozen by the caller.
        name: its full name in the model; part of the dropout stream.
        routing: shared by all layers of the model.
    """

    def __init__(self, base: nn.Module, name: str, routing: Routing) -> None:
        super().__init__()
        self.base = base
        self.name = name
        self.routing = routing
        self.adapters: dict[int, LoraWeights] = {}
        self.merged_slot: int | None = None
        self._unmerged: list[tuple[nn.Parameter, Tensor]] = []

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output with each segment's own update added.

        Raises:
            AdapterStateError: gradients are wanted while an adapter is merged.
        """
        segments = self.routing.of(x)
        if self.merged_slot is not None:
            if torch.is_grad_enabled() and segments:
                raise AdapterStateError(
                    f"{self.name}: cannot train while slot {self.merged_slot} is merged; unmerge it"
                )
            return cast(Tensor, self.base(x))
        parts = [(s, self.adapters[s.slot]) for s in segments if s.slot in self.adapters]
        if not parts:
            return cast(Tensor, self.base(x))
        weights = [w for _, adapter in parts for w in (adapter.a, adapter.b)]
        out = cast(Tensor, _PackedLinear.apply(x, self.base, self.name, parts, *weights))  # type: ignore[no-untyped-call]
        return add_biases(out, self.base, parts)

    def merge(self, slot: int) -> None:
        """Add the slot's update to the base's weight, and put its bias in the place of the base's.

        Raises:
            AdapterStateError: an adapter is merged already.
        """
        if self.merged_slot is not None:
            raise AdapterStateError(f"{self.name}: slot {self.merged_slot} is merged already; unmerge it first")
        if slot not in self.adapters:
            return
        weight = cast(nn.Parameter, self.base.weight)
        adapter, delta = self.adapters[slot], self.adapters[slot].delta()
        merged = [(weight, weight.detach().float() + (delta.T if is_conv1d(self.base) else delta))]
        if adapter.bias is not None:
            merged.append((cast(nn.Parameter, self.base.bias), adapter.bias))
        self._unmerged = [(parameter, parameter.detach().clone()) for parameter, _ in merged]
        _copy(merged)
        self.merged_slot = slot

    def unmerge(self) -> None:
        """Restore the base's weight and bias, bit for bit."""
        _copy(self._unmerged)
        self._unmerged, self.merged_slot = [], None


class _PackedLinear(torch.autograd.Function):
    """base(x), and on every segment scaling * dropout(x) A^T B^T added in place.

    Saves the layer's input, the [tokens, rank] products and the masks. Products run in the base's dtype. Gradients of
    A and B are added to their fp32 `.grad` right here: they are inputs only so that backward is called.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, base: nn.Module, name: str, parts: list[tuple[Segment, LoraWeights]], *weights: Tensor
    ) -> Tensor:
        out = cast(Tensor, base(x))
        saved: list[Tensor | None] = []
        for segment, adapter in parts:
            rows = _tokens(x[segment.start : segment.stop])
            mask = _mask(rows, name, segment, adapter)
            h = _masked(rows, mask) @ adapter.rounded_a.T
            _in_place(out, segment).addmm_(h, adapter.rounded_b.T, alpha=_scale(adapter, mask))
            saved += [h, mask]
        ctx.save_for_backward(x, *saved)
        ctx.base, ctx.parts, ctx.weights = base, parts, len(weights)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, *saved = ctx.saved_tensors
        grad = grad.contiguous()
        weight = ctx.base.weight
        grad_x = grad @ (weight.T if is_conv1d(ctx.base) else weight) if ctx.needs_input_grad[0] else None
        for (segment, adapter), h, mask in zip(ctx.parts, saved[::2], saved[1::2], strict=True):
            rows, g = _tokens(x[segment.start : segment.stop]), _tokens(grad[segment.start : segment.stop])
            scale = _scale(adapter, mask)
            grad_h = g @ adapter.rounded_b
            cast(Tensor, adapter.a.grad).add_(grad_h.T @ _masked(rows, mask), alpha=scale)
            cast(Tensor, adapter.b.grad).add_(g.T @ h, alpha=scale)
            if grad_x is not None:
                back = _in_place(grad_x, segment)
                if mask is None:
                    back.addmm_(grad_h, adapter.rounded_a, alpha=scale)
                else:
                    back.addcmul_(grad_h @ adapter.rounded_a, mask.to(grad_h.dtype), value=scale)
        return grad_x, None, None, None, *(None for _ in range(ctx.weights))


def is_conv1d(module: nn.Module) -> bool:
    """Whether this is GPT-2's Conv1D, a linear layer with its weight stored as [in, out]."""
    return type(module).__name__ == "Conv1D" and hasattr(module, "nf")


def is_linear(module: nn.Module) -> bool:
    """Whether LoRA can be put on this module."""
    return isinstance(module, nn.Linear) or is_conv1d(module)


def linear_shape(module: nn.Module) -> tuple[int, int]:
    """(in, out) of a linear layer."""
    if is_conv1d(module):
        rows, columns = cast(Tensor, module.weight).shape
        return rows, columns
    linear = cast(nn.Linear, module)
    return linear.in_features, linear.out_features


@torch.no_grad()
def _copy(values: list[tuple[nn.Parameter, Tensor]]) -> None:
    for parameter, value in values:
        parameter.copy_(value)


def _tokens(x: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[-1])


def _in_place(x: Tensor, segment: Segment) -> Tensor:
    # a view, never a copy: what is added to it must arrive
    return x[segment.start : segment.stop].view(-1, x.shape[-1])


def _mask(rows: Tensor, name: str, segment: Segment, adapter: LoraWeights) -> Tensor | None:
    """Which elements of the segment's input stay, bool [tokens, in]; None without dropout."""
    if segment.dropout is None or adapter.dropout == 0:
        return None
    keep = segment.dropout.keep_mask(name, adapter.dropout, rows.numel() // len(segment.dropout.rows))
    return keep.reshape(rows.shape).to(rows.device, non_blocking=True)


def _masked(rows: Tensor, mask: Tensor | None) -> Tensor:
    return rows if mask is None else torch.where(mask, rows, 0)


def _scale(adapter: LoraWeights, mask: Tensor | None) -> float:
    """alpha / rank, and 1 / (1 - p) where elements were dropped."""
    return adapter.scaling if mask is None else adapter.scaling / (1 - adapter.dropout)
