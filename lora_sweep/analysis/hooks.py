"""Reading layers while examples run forward and backward: inputs, and the gradients at outputs, example by example."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from lora_sweep.analysis.session import AnalysisSession
from lora_sweep.engine.gradients import backward_by_example
from lora_sweep.engine.slot import Slot

Reader = Callable[[Tensor, Tensor, np.ndarray], None]
"""Takes a layer's inputs [b, T, in], the gradients of each example's mean loss at its outputs [b, T, out], both fp32
and zero at padding, and the examples' positions in the split, int64 [b]. Of a layer that a pass calls several times (as
ALBERT's) the calls stand one behind the other along T, so that sums over tokens are over all its calls.
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
    engine = session.engine
    probes = {name: _Probe(reader) for name, reader in readers.items()}

    def begin(which: np.ndarray, tokens: Tensor) -> None:
        for probe in probes.values():
            probe.begin(which, tokens[:, :, None])

    with _hooked([(engine.base.model.get_submodule(name), probe) for name, probe in probes.items()]):
        for start in range(0, len(examples), _BATCH):
            backward_by_example(engine, slot, split, examples[start : start + _BATCH], begin)
        for probe in probes.values():
            probe.end()


class _Probe:
    """A forward hook that notes a layer's inputs, and shows them when the gradients at its outputs have arrived."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._calls = 0
        self._seen: list[tuple[Tensor, Tensor]] = []

    def begin(self, examples: np.ndarray, mask: Tensor) -> None:
        """A pass begins: its examples [b] and which positions hold tokens, [b, T, 1]."""
        self.end()
        self._examples, self._mask, self._calls = examples, mask, 0

    def end(self) -> None:
        """Show what has arrived."""
        if self._seen:
            x, g = (parts[0] if len(parts) == 1 else torch.cat(parts, dim=1) for parts in zip(*self._seen, strict=True))
            self._seen = []
            self._reader(x, g, self._examples)

    def __call__(self, _module: nn.Module, inputs: Sequence[Tensor], output: Tensor) -> Tensor:
        self._calls += 1
        x = inputs[0].detach()
        if not output.requires_grad:
            # below the first layer that trains nothing asks for gradients: let them begin here
            output = output.detach().requires_grad_()
        output.register_hook(lambda g: self._note(x, g))  # type: ignore[no-untyped-call]
        return output

    def _note(self, x: Tensor, g: Tensor) -> None:
        x, g = (_by_example(one, len(self._examples)) * self._mask for one in (x, g))
        self._seen.append((x, g))
        # a call whose output comes to nothing has no gradient: then the next pass or the end shows the others
        if len(self._seen) == self._calls:
            self.end()


def _by_example(x: Tensor, rows: int) -> Tensor:
    """[b, T, features] or its flattened forms, as fp32 [b, T, features]."""
    return x.detach().float().reshape(rows, -1, x.shape[-1])


@contextmanager
def _hooked(pairs: Sequence[tuple[nn.Module, _Probe]]) -> Iterator[None]:
    handles = [module.register_forward_hook(probe) for module, probe in pairs]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
