"""One adapter's optimizer step: a handful of operations, whatever the number of its layers.

AdamW is torch's fused one (arXiv 1711.05101, algorithm 2), which reads and writes everything once; SGD is
`torch.optim.SGD` without momentum, clipping `torch.nn.utils.clip_grad_norm_`. The tests compare with all three.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from lora_sweep.adapters import AdapterWeights
from lora_sweep.engine.schedule import learning_rate_at
from lora_sweep.records import TrialConfig

MOMENTS = {"adamw": ("exp_avg", "exp_avg_sq"), "sgd": ()}
"""The names of the vectors that an optimizer keeps in a bank, beside the weights."""

_BETAS, _EPS = (0.9, 0.999), 1e-8


@torch.no_grad()
def optimizer_step(weights: AdapterWeights, config: TrialConfig, step: int) -> None:
    """Clip the gradient by its norm, update the weights and round them again.

    Args:
        weights: the adapter.
        config: its trial's.
        step: the number of the step, counted from 0.
    """
    bank, row = weights.bank, weights.row
    shrink = None if config.clip is None else _shrink(bank.gradient[row], config.clip)
    moments = [bank.extra(name)[row] for name in MOMENTS[config.optimizer]]
    update = _sgd if config.optimizer == "sgd" else _adamw
    update(bank.vector[row], bank.gradient[row], moments, config, step, shrink)
    bank.refresh(row)


def zero_gradients(pack: Sequence[AdapterWeights]) -> None:
    """Clear the gradients of some adapters."""
    for weights in pack:
        weights.bank.gradient[weights.row].zero_()


def _shrink(gradient: Tensor, clip: float) -> Tensor:
    """What the gradient is divided by: at least 1, fp32, without asking the device for the norm."""
    norm: Tensor = torch.linalg.vector_norm(gradient)
    return ((norm + 1e-6) / clip).clamp(min=1.0)


def _adamw(
    vector: Tensor, gradient: Tensor, moments: list[Tensor], config: TrialConfig, step: int, shrink: Tensor | None
) -> None:
    exp_avg, exp_avg_sq = moments
    done = torch.full((), step, dtype=torch.float32, device=vector.device)
    adamw(
        [vector], [gradient], [exp_avg], [exp_avg_sq], [], [done],
        fused=True, grad_scale=shrink, amsgrad=False, beta1=_BETAS[0], beta2=_BETAS[1], eps=_EPS, maximize=False,
        lr=learning_rate_at(config, step), weight_decay=config.weight_decay,
    )  # fmt: skip


def _sgd(
    vector: Tensor, gradient: Tensor, _moments: list[Tensor], config: TrialConfig, step: int, shrink: Tensor | None
) -> None:
    if shrink is not None:
        gradient /= shrink
    rate = learning_rate_at(config, step)
    vector.mul_(1 - rate * config.weight_decay).sub_(gradient, alpha=rate)
