"""How much the loss asks of a layer's weight, from real gradients and activations, through hooks.

For one example let X [T, in] be a layer's inputs and G [T, out] the gradient of the example's mean loss at its
outputs; then the gradient of its frozen weight is G^T X. Two readings, both means over examples:

- `gradient_squared`, the mean of |G^T X|_F^2, is taken where training began: without the update, under the trial's
  own head. It is the layer's part of the trace of the empirical Fisher information. At the start B = 0, so B's
  gradient is scaling * G^T X A^T, and with a random A its expected square is that trace times a constant of the
  layer's size: what LoRA can see of the gradient. GoRA (arXiv 2502.12171) places ranks by the related mean |W * dW|.
- `sensitivity`, the root of the mean of <G^T X, update>^2, is taken at the trained adapter: to first order, how much
  an example's loss changes when this layer's update is removed (Molchanov et al., CVPR 2019, equation 8, with the
  update as the group of weights; AdaLoRA, arXiv 2303.10512, sums the related |w * dw|).

No weight-sized gradient is formed where the T x T products are smaller: |G^T X|_F^2 = <G G^T, X X^T>.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lora_sweep.adapters import AdapterFile
from lora_sweep.analysis.cut import lora_layers, without
from lora_sweep.analysis.holdout import HOLDOUT
from lora_sweep.analysis.session import AnalysisSession
from lora_sweep.engine.gradients import backward_by_example
from lora_sweep.engine.slot import Slot

PerExample = Callable[[Tensor, Tensor], Tensor]
"""From inputs [b, T, in] and gradients at outputs [b, T, out], both fp32, to one value an example, [b]."""

_BATCH = 32


def gradient_squared(session: AnalysisSession, adapter: AdapterFile, split: str = HOLDOUT) -> dict[str, float]:
    """The mean squared gradient of each adapted layer's frozen weight, where training began; by full name."""
    layers = lora_layers(adapter)
    with session.loaded([without(adapter, layers)]) as (slot,):
        return _means(session, slot, dict.fromkeys(layers, squared_product), split)


def sensitivity(session: AnalysisSession, adapter: AdapterFile, split: str = HOLDOUT) -> dict[str, float]:
    """The first-order effect of removing each layer's update on an example's loss, root mean square; by full name."""
    with session.loaded([adapter]) as (slot,):
        readers = {name: _update_effect(slot, adapter, name) for name in lora_layers(adapter)}
        return {name: value**0.5 for name, value in _means(session, slot, readers, split).items()}


def squared_product(x: Tensor, g: Tensor) -> Tensor:
    """|G^T X|_F^2 of each example, the cheaper way: [b, T, in], [b, T, out] -> [b]."""
    length = x.shape[1]
    if length * length <= x.shape[2] * g.shape[2]:
        return ((g @ g.mT) * (x @ x.mT)).sum(dim=(1, 2))
    return torch.stack([(one_g.T @ one_x).square().sum() for one_x, one_g in zip(x, g, strict=True)])


def _update_effect(slot: Slot, adapter: AdapterFile, name: str) -> PerExample:
    a, b = (slot.weights.named[f"{name}.lora_{part}.weight"].detach() for part in "AB")
    scaling = adapter.spec.scaling_of(name)

    def squared_effect(x: Tensor, g: Tensor) -> Tensor:
        # <G^T X, scaling B A> = scaling * sum over tokens of (B^T g) . (A x)
        return (scaling * ((g @ b) * (x @ a.T)).sum(dim=(1, 2))).square()

    return squared_effect


def _means(session: AnalysisSession, slot: Slot, readers: dict[str, PerExample], split: str) -> dict[str, float]:
    """The mean over the split's examples of what each layer's reader says."""
    engine = session.engine
    examples = np.arange(len(engine.task.splits[split]))
    sums: dict[str, Tensor] = {}
    probes = [_Probe(engine.adapted.routing, sums, name, reader) for name, reader in readers.items()]
    with _hooked((engine.base.model.get_submodule(probe.name), probe) for probe in probes):
        for start in range(0, len(examples), _BATCH):
            backward_by_example(engine, slot, split, examples[start : start + _BATCH])
    return {name: float(sums[name]) / len(examples) if name in sums else 0.0 for name in readers}


class _Probe:
    """A forward hook that reads a layer's inputs, and the gradient at its outputs when that arrives."""

    def __init__(self, routing: Any, sums: dict[str, Tensor], name: str, reader: PerExample) -> None:
        self.routing, self.sums, self.name, self.reader = routing, sums, name, reader

    def __call__(self, _module: nn.Module, inputs: Sequence[Tensor], output: Tensor) -> Tensor:
        rows, x = self.routing.segments[-1].stop, inputs[0].detach()
        if not output.requires_grad:
            # below the first layer that trains nothing asks for gradients: let them begin here
            output = output.detach().requires_grad_()
        output.register_hook(  # type: ignore[no-untyped-call]
            lambda g: self._note(_by_example(x, rows), _by_example(g, rows))
        )
        return output

    def _note(self, x: Tensor, g: Tensor) -> None:
        total = self.reader(x, g).double().sum()
        self.sums[self.name] = self.sums.get(self.name, torch.zeros_like(total)) + total


def _by_example(x: Tensor, rows: int) -> Tensor:
    """[b, T, features] or its flattened forms, as fp32 [b, T, features]."""
    return x.detach().float().reshape(rows, -1, x.shape[-1])


@contextmanager
def _hooked(pairs: Iterable[tuple[nn.Module, _Probe]]) -> Iterator[None]:
    handles = [module.register_forward_hook(probe) for module, probe in pairs]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
