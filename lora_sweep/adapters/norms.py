"""How large an adapter's matrices and its update are, without forming the update."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from lora_sweep.adapters.layer import LoraWeights
from lora_sweep.records import WeightNorms


@torch.no_grad()
def weight_norms(layers: Iterable[LoraWeights]) -> WeightNorms:
    """Frobenius norms over some layers of A, B and scaling * B A.

    |B A|_F^2 = <B^T B, A A^T>, of two [rank, rank] matrices. In fp32 the sum may lose what is below 1e-4 of |B| |A|.
    """
    squares = [
        torch.stack(
            [
                layer.a.square().sum(),
                layer.b.square().sum(),
                layer.scaling**2 * ((layer.b.T @ layer.b) * (layer.a @ layer.a.T)).sum().clamp(min=0),
            ]
        )
        for layer in layers
    ]
    a, b, update = torch.stack(squares).double().sum(dim=0).sqrt().tolist()
    return WeightNorms(a=a, b=b, update=update)
