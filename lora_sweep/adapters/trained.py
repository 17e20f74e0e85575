"""Modules that every adapter trains in full beside its LoRA matrices: a task head, a pooler that the checkpoint lacks.

Each slot has its own copy of the parameters; the module's structure is shared. PEFT calls these `modules_to_save`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

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
        self.copies: dict[int, Mapping[str, Tensor]] = {}
        self._unmerged: dict[str, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Each segment through its own slot's parameters."""
        segments = self.routing.of(x)
        if self._unmerged is not None or not segments:
            return cast(Tensor, self.base(x))
        outputs = [
            functional_call(self.base, dict(self.copies[s.slot]), (x[s.start : s.stop].float(),)) for s in segments
        ]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)

    def merge(self, slot: int) -> None:
        """Put the slot's parameters into the module itself.

        Raises:
            AdapterStateError: a slot is merged already.
        """
        if self._unmerged is not None:
            raise AdapterStateError(f"{self.name}: a slot is merged already; unmerge it first")
        parameters = dict(self.base.named_parameters())
        self._unmerged = {name: p.detach().clone() for name, p in parameters.items()}
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(self.copies[slot][name])

    def unmerge(self) -> None:
        """Restore the module's parameters, bit for bit."""
        with torch.no_grad():
            for name, parameter in self.base.named_parameters():
                if self._unmerged is not None:
                    parameter.copy_(self._unmerged[name])
        self._unmerged = None
