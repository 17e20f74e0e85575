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

from lora_sweep.adapters.bank import column, stack
from lora_sweep.adapters.biases import add_bias_gradients, add_biases
from lora_sweep.adapters.dropout import keep_, kept
from lora_sweep.adapters.frozen_linear import product as multiply
from lora_sweep.adapters.grouped import add_outer, add_product, product
from lora_sweep.adapters.layout import Entry, Place
from lora_sweep.adapters.route import Part, Route
from lora_sweep.adapters.routing import Routing
from lora_sweep.adapters.tokens import Groups
from lora_sweep.errors import AdapterStateError


@dataclass(frozen=True)
class LoraWeights:
    """One adapter at one layer.

    Attributes:
        a: fp32 [rank, in].
        b: fp32 [out, rank].
        scaling: alpha / rank.
        bias: fp32 [out], trained in place of the base's; None where the base's is kept or the layer has none.
    """

    a: Tensor
    b: Tensor
    scaling: float
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
        self.slots: set[int] = set()
        self.merged_slot: int | None = None
        self._number = routing.number(name)
        self._unmerged: list[tuple[nn.Parameter, Tensor]] = []

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output with each segment's own update added.

        Raises:
            AdapterStateError: gradients are wanted while an adapter is merged.
        """
        route = self.routing.of(x)
        if route is not None and self.merged_slot is not None and torch.is_grad_enabled():
            raise AdapterStateError(f"{self.name}: cannot train while slot {self.merged_slot} is merged; unmerge it")
        if route is None or self.merged_slot is not None:
            return cast(Tensor, self.base(x))
        parts = [(part, part.bank.layout.places[self.name]) for part in route.parts if self._adapts(part)]
        if not parts:
            return cast(Tensor, self.base(x))
        return cast(Tensor, _PackedLinear.apply(x, self.routing.anchor, self.base, self._number, route, parts))  # type: ignore[no-untyped-call]

    def _adapts(self, part: Part) -> bool:
        return self.name in part.bank.layout.places

    def merge(self, slot: int, weights: LoraWeights) -> None:
        """Add a slot's update to the base's weight, and put its bias in the place of the base's.

        Raises:
            AdapterStateError: an adapter is merged already.
        """
        if self.merged_slot is not None:
            raise AdapterStateError(f"{self.name}: slot {self.merged_slot} is merged already; unmerge it first")
        weight = cast(nn.Parameter, self.base.weight)
        delta = weights.delta()
        merged = [(weight, weight.detach().float() + (delta.T if is_conv1d(self.base) else delta))]
        if weights.bias is not None:
            merged.append((cast(nn.Parameter, self.base.bias), weights.bias))
        self._unmerged = [(parameter, parameter.detach().clone()) for parameter, _ in merged]
        _copy(merged)
        self.merged_slot = slot

    def unmerge(self) -> None:
        """Restore the base's weight and bias, bit for bit."""
        _copy(self._unmerged)
        self._unmerged, self.merged_slot = [], None


class _PackedLinear(torch.autograd.Function):
    """base(x), and on every group of tokens scaling * dropout(x) A^T B^T added in place.

    Saves the layer's input and the [tokens, rank] products; masks are looked up again. Products run in the base's
    dtype. Gradients of A and B are added to their bank's right here; the anchor is an input only so that backward is
    called.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        _anchor: Tensor,
        base: nn.Module,
        number: int,
        route: Route,
        parts: list[tuple[Part, Place]],
    ) -> Tensor:
        out = cast(Tensor, base(x))
        tokens = route.tokens(x)
        flat, flat_out = _flat(x), out.view(-1, out.shape[-1])
        windows = route.lora_windows(number, tokens) if any(part.drops for part, _ in parts) else None
        saved = []
        for part, place in parts:
            groups = tokens.groups(part)
            rows, out_rows = flat[groups.span], flat_out[groups.span]
            if windows is not None and part.drops:
                rows = kept(rows, route.keep.masks(windows[groups.span], rows.shape[-1]))
            h = product(rows, _a(part, place).mT, groups)
            h *= tokens.scale(part, place)
            add_product(out_rows, h, _b(part, place).mT, groups)
            add_biases(out_rows, base, part, place, groups)
            saved.append(h)
        ctx.save_for_backward(x, windows, *saved)
        ctx.base, ctx.keep, ctx.parts, ctx.tokens = base, route.keep, parts, tokens
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, windows, *saved = ctx.saved_tensors
        grad, flat = grad.contiguous(), _flat(x)
        weight = ctx.base.weight
        grad_x = multiply(grad, weight if is_conv1d(ctx.base) else weight.T) if ctx.needs_input_grad[0] else None
        for (part, place), h in zip(ctx.parts, saved, strict=True):
            groups = ctx.tokens.groups(part)
            g, rows = _flat(grad)[groups.span], flat[groups.span]
            _add_gradient(part, place.b, g, h, groups)
            add_bias_gradients(g, part, place, groups)
            grad_h = product(g, _b(part, place), groups)
            grad_h *= ctx.tokens.scale(part, place)
            back = None if grad_x is None else grad_x.view(-1, grad_x.shape[-1])[groups.span]
            if part.drops:
                masks = ctx.keep.masks(windows[groups.span], rows.shape[-1])
                if back is not None:
                    back += keep_(product(grad_h, _a(part, place), groups), masks)
                rows = kept(rows, masks)
            elif back is not None:
                add_product(back, grad_h, _a(part, place), groups)
            _add_gradient(part, place.a, grad_h, rows, groups)
        return grad_x, None, None, None, None, None


def _a(part: Part, place: Place) -> Tensor:
    """[adapters, rank, in] in the base's dtype."""
    return stack(part.bank.rounded, place.a, part.rows)


def _b(part: Part, place: Place) -> Tensor:
    """[adapters, out, rank] in the base's dtype."""
    return stack(part.bank.rounded, place.b, part.rows)


def _add_gradient(part: Part, entry: Entry, left: Tensor, right: Tensor, groups: Groups) -> None:
    add_outer(column(part.bank.gradient, entry), part.rows, left, right, groups)


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


def _flat(x: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[-1])
