"""How much the loss asks of a layer's weight, from real gradients and activations, through hooks.

For one example let X [T, in] be a layer's inputs and G [T, out] the gradient of the example's mean loss at its
outputs; then the gradient of its frozen weight is G^T X. Three readings, all means over examples:

- `gradient_squared`, the mean of |G^T X|_F^2, is taken where training began: without the update, under the trial's
  own head. It is the layer's part of the trace of the empirical Fisher information. At the start B = 0, so B's
  gradient is scaling * G^T X A^T, and with a random A its expected square is that trace times a constant of the
  layer's size: what LoRA can see of the gradient. GoRA (arXiv 2502.12171) places ranks by the related mean |W * dW|.
- `activation_squared`, the mean squared norm of an input token (over an example's tokens, then over examples), at the
  same place. EVA (arXiv 2410.07170) places ranks by how the variance of these inputs is spread.
- `sensitivity`, the root of the mean of <G^T X, update>^2, is taken at the trained adapter: to first order, how much
  an example's loss changes when this layer's update is removed (Molchanov et al., CVPR 2019, equation 8, with the
  update as the group of weights; AdaLoRA, arXiv 2303.10512, sums the related |w * dw|).

No weight-sized gradient is formed where the T x T products are smaller: |G^T X|_F^2 = <G G^T, X X^T>.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lora_sweep.adapters import AdapterFile
from lora_sweep.analysis.cut import lora_layers, without
from lora_sweep.analysis.hooks import Reader, read_layers
from lora_sweep.analysis.session import AnalysisSession
from lora_sweep.engine.slot import Slot
from lora_sweep.tasks import HOLDOUT

PerExample = Callable[[Tensor, Tensor], Tensor]
"""From inputs [b, T, in] and gradients at outputs [b, T, out], both fp32 and zero at padding, to values [b, m]."""


@dataclass(frozen=True)
class LayerStart:
    """What a layer looks like where training begins, without any update."""

    gradient_squared: float
    activation_squared: float


def at_start(session: AnalysisSession, adapter: AdapterFile, split: str = HOLDOUT) -> dict[str, LayerStart]:
    """Squared gradient and squared inputs of each adapted layer, where training began; by full name."""
    layers = lora_layers(adapter)
    with session.loaded([without(adapter, layers)]) as (slot,):
        means = _means(session, slot, dict.fromkeys(layers, _start), split)
    return {name: LayerStart(*value.tolist()) for name, value in means.items()}


def sensitivity(session: AnalysisSession, adapter: AdapterFile, split: str = HOLDOUT) -> dict[str, float]:
    """The first-order effect of removing each layer's update on an example's loss, root mean square; by full name."""
    with session.loaded([adapter]) as (slot,):
        readers = {name: _update_effect(slot, adapter, name) for name in lora_layers(adapter)}
        return {name: float(value[0]) ** 0.5 for name, value in _means(session, slot, readers, split).items()}


def squared_product(x: Tensor, g: Tensor) -> Tensor:
    """|G^T X|_F^2 of each example, the cheaper way: [b, T, in], [b, T, out] -> [b]."""
    length = x.shape[1]
    if length * length <= x.shape[2] * g.shape[2]:
        return ((g @ g.mT) * (x @ x.mT)).sum(dim=(1, 2))
    return torch.stack([(one_g.T @ one_x).square().sum() for one_x, one_g in zip(x, g, strict=True)])


def _start(x: Tensor, g: Tensor) -> Tensor:
    squares = x.square().sum(dim=2)
    tokens = (squares > 0).sum(dim=1).clamp(min=1)
    return torch.stack([squared_product(x, g), squares.sum(dim=1) / tokens], dim=1)


def _update_effect(slot: Slot, adapter: AdapterFile, name: str) -> PerExample:
    a, b = (slot.weights.named[f"{name}.lora_{part}.weight"].detach() for part in "AB")
    scaling = adapter.spec.scaling_of(name)

    def squared_effect(x: Tensor, g: Tensor) -> Tensor:
        # <G^T X, scaling B A> = scaling * sum over tokens of (B^T g) . (A x)
        return (scaling * ((g @ b) * (x @ a.T)).sum(dim=(1, 2))).square()[:, None]

    return squared_effect


def _means(session: AnalysisSession, slot: Slot, values: Mapping[str, PerExample], split: str) -> dict[str, np.ndarray]:
    """The mean over the split's examples of what each layer's function says: fp64 [m]."""
    examples = np.arange(len(session.engine.task.splits[split]))
    sums: dict[str, Tensor] = {}

    def reader(name: str, value: PerExample) -> Reader:
        def read(x: Tensor, g: Tensor, _examples: np.ndarray) -> None:
            total = value(x, g).double().sum(dim=0)
            sums[name] = sums.get(name, torch.zeros_like(total)) + total

        return read

    read_layers(session, slot, split, examples, {name: reader(name, value) for name, value in values.items()})
    return {name: (sums[name] / len(examples)).cpu().numpy() for name in values}
