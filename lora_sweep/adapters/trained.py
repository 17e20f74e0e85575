"""Modules that every adapter trains in full beside its LoRA matrices: a task head, a pooler that the checkpoint lacks.

Each slot has its own copy of the parameters; the module's structure is shared. PEFT calls these `modules_to_save`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call, vmap

from lora_sweep.adapters.bank import column, stack
from lora_sweep.adapters.layout import Entry
from lora_sweep.adapters.route import Part
from lora_sweep.adapters.routing import Routing
from lora_sweep.errors import AdapterStateError


class TrainedModule(nn.Module):
    """A module with its own fp32 parameters for every slot.

    Input [rows, ...] in the base's dtype, output [rows, ...] in fp32: what follows a new module is new or has no
    parameters. A batch without segments goes through the checkpoint's own parameters.

    Args:
        base: the module as the checkpoint (or its initialisation) left it.
        name: its full name in the model.
        routing: shared by all modules of the model.
    """

    def __init__(self, base: nn.Module, name: str, routing: Routing) -> None:
        super().__init__()
        self.base = base
        self.name = name
        self.routing = routing
        self._unmerged: dict[str, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Each segment through its own slot's parameters."""
        route = self.routing.of(x)
        if self._unmerged is not None or route is None or not route.parts:
            return cast(Tensor, self.base(x))
        times = x.shape[0] // route.rows
        outputs = [self._through(part, x[part.start * times : part.stop * times].float()) for part in route.parts]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)

    def _through(self, part: Part, x: Tensor) -> Tensor:
        """[rows of the part, ...]: all its adapters at once where each has as many rows."""
        entries = {name: part.bank.layout.entries[f"{self.name}.{name}"] for name, _ in self.base.named_parameters()}
        stacked = {
            name: cast(Tensor, _Stacked.apply(self.routing.anchor, part, entry))  # type: ignore[no-untyped-call]
            for name, entry in entries.items()
        }
        sizes = [member.stop - member.start for member in part.members]
        if len(set(sizes)) == 1 and len(sizes) > 1:
            return vmap(self._answer)(stacked, x.view(len(sizes), -1, *x.shape[1:])).flatten(0, 1)
        times = len(x) // sum(sizes)
        pieces = torch.split(x, [size * times for size in sizes])
        rows = ({name: tensor[i] for name, tensor in stacked.items()} for i in range(len(sizes)))
        return torch.cat([self._answer(row, piece) for row, piece in zip(rows, pieces, strict=True)])

    def _answer(self, parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return cast(Tensor, functional_call(self.base, parameters, (x,)))

    def merge(self, values: Mapping[str, Tensor]) -> None:
        """Put one slot's parameters, by their names within this module, into the module itself.

        Raises:
            AdapterStateError: a slot is merged already.
        """
        if self._unmerged is not None:
            raise AdapterStateError(f"{self.name}: a slot is merged already; unmerge it first")
        parameters = dict(self.base.named_parameters())
        self._unmerged = {name: p.detach().clone() for name, p in parameters.items()}
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(values[name])

    def unmerge(self) -> None:
        """Restore the module's parameters, bit for bit."""
        with torch.no_grad():
            for name, parameter in self.base.named_parameters():
                if self._unmerged is not None:
                    parameter.copy_(self._unmerged[name])
        self._unmerged = None


class _Stacked(torch.autograd.Function):
    """One parameter of a part's adapters, [adapters, ...], whose gradient is added to their bank's."""

    @staticmethod
    def forward(ctx: Any, _anchor: Tensor, part: Part, entry: Entry) -> Tensor:
        ctx.part, ctx.entry = part, entry
        return stack(part.bank.vector, entry, part.rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        column(ctx.part.bank.gradient, ctx.entry)[ctx.part.rows.index] += grad
        return None, None, None
