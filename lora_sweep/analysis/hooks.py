"""Reading layers while examples run forward and backward: inputs, and the gradients at outputs, example by example."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from lora_sweep.analysis.session import AnalysisSession
from lora_sweep.engine.gradients import backward_by_example
from lora_sweep.engine.slot import Slot

Reader = Callable[[Tensor, Tensor, np.ndarray], None]
"""Takes a layer's inputs [b, T, in], the gradients of each example's mean loss at its outputs [b, T, out], both fp32
and zero at padding, and the examples' positions in the split, int64 [b]. A layer that a pass calls twice is read twice.
"""

_BATCH = 32


def read_layers(
    session: AnalysisSession, slot: Slot, split: str, examples: np.ndarray, readers: Mapping[str, Reader]
) -> None:
    """Run the examples of a split forward and backward, without dropout, and show the layers to their readers.

    Args:
        session: with an engine.
        slot: holds the adapter that is on.
        split: whose examples.
        examples: positions in the split, int64 [n].
        readers: by the layer's full name.
    """
    engine, present = session.engine, _Present()
    pairs = [(engine.base.model.get_submodule(name), _Probe(present, reader)) for name, reader in readers.items()]
    with _hooked(pairs):
        for start in range(0, len(examples), _BATCH):
            backward_by_example(engine, slot, split, examples[start : start + _BATCH], present.begin)


@dataclass
class _Present:
    """The pass that is under way: its examples [b] and which positions hold tokens, [b, T, 1]."""

    examples: np.ndarray | None = None
    mask: Tensor | None = None

    def begin(self, examples: np.ndarray, mask: Tensor) -> None:
        self.examples, self.mask = examples, mask[:, :, None]


class _Probe:
    """A forward hook that notes a layer's inputs, and shows them when the gradient at its outputs arrives."""

    def __init__(self, present: _Present, reader: Reader) -> None:
        self.present, self.reader = present, reader

    def __call__(self, _module: nn.Module, inputs: Sequence[Tensor], output: Tensor) -> Tensor:
        x = inputs[0].detach()
        if not output.requires_grad:
            # below the first layer that trains nothing asks for gradients: let them begin here
            output = output.detach().requires_grad_()
        output.register_hook(lambda g: self._show(x, g))  # type: ignore[no-untyped-call]
        return output

    def _show(self, x: Tensor, g: Tensor) -> None:
        examples, mask = self.present.examples, self.present.mask
        assert examples is not None and mask is not None
        x, g = (_by_example(one, len(examples)) * mask for one in (x, g))
        self.reader(x, g, examples)


def _by_example(x: Tensor, rows: int) -> Tensor:
    """[b, T, features] or its flattened forms, as fp32 [b, T, features]."""
    return x.detach().float().reshape(rows, -1, x.shape[-1])


@contextmanager
def _hooked(pairs: Sequence[tuple[nn.Module, Any]]) -> Iterator[None]:
    handles = [module.register_forward_hook(probe) for module, probe in pairs]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
