"""The spectrum of a trained update: what an adapter's B A looks like, layer by layer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from lora_sweep.adapters import AdapterFile
from lora_sweep.errors import AdapterFormatError


@dataclass(frozen=True)
class LayerSpectrum:
    """One layer's update, scaling * B A.

    Attributes:
        name: full name of the layer.
        shape: (out, in) of its weight.
        rank: of the adapter here.
        norm_a, norm_b, norm_update: Frobenius norms of A, B and scaling * B A.
        singular_values: of scaling * B A, descending; as many as the smallest of rank, out and in.
    """

    name: str
    shape: tuple[int, int]
    rank: int
    norm_a: float
    norm_b: float
    norm_update: float
    singular_values: tuple[float, ...]

    @property
    def stable_rank(self) -> float:
        """|update|_F^2 / |update|_2^2 (arXiv 1501.01571, section 2.1.15); 0 for a zero update."""
        largest = self.singular_values[0]
        return self.norm_update**2 / largest**2 if largest > 0 else 0.0

    @property
    def effective_rank(self) -> float:
        """exp of the entropy of s_i / sum s (Roy and Vetterli, EUSIPCO 2007); 0 for a zero update."""
        total = sum(self.singular_values)
        shares = [value / total for value in self.singular_values if value > 0]
        return math.exp(-sum(share * math.log(share) for share in shares)) if shares else 0.0

    @property
    def energy(self) -> tuple[float, ...]:
        """Share of sum s_i^2 in the first 1, 2, ... values; all 1 for a zero update."""
        sums = list(accumulate(value**2 for value in self.singular_values))
        return tuple(one / sums[-1] if sums[-1] > 0 else 1.0 for one in sums)

    @property
    def errors(self) -> tuple[float, ...]:
        """|update - update cut to rank k|_F / |update|_F at k = 1, 2, ...; all 0 for a zero update.

        By the tail, sqrt(s_{k+1}^2 + ...): 1 - energy would lose what is below 1e-8.
        """
        squares = [value**2 for value in self.singular_values]
        tails = list(accumulate(reversed(squares)))[::-1]
        return tuple(math.sqrt(tail / tails[0]) if tails[0] > 0 else 0.0 for tail in (*tails[1:], 0.0))


def spectra(adapter: AdapterFile) -> list[LayerSpectrum]:
    """The spectrum of every layer, by name.

    Raises:
        AdapterFormatError: a layer's A has no B that fits it, or a value is not finite.
    """
    modules = sorted(name.removesuffix(".lora_A.weight") for name in adapter.tensors if name.endswith(".lora_A.weight"))
    return [_spectrum(adapter, name) for name in modules]


def _spectrum(adapter: AdapterFile, name: str) -> LayerSpectrum:
    a, b = adapter.tensors[f"{name}.lora_A.weight"], adapter.tensors.get(f"{name}.lora_B.weight")
    if b is None or a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1]:
        found = f"A {list(a.shape)}, B {'missing' if b is None else list(b.shape)}"
        raise AdapterFormatError(f"adapter: {name}", "must have A [rank, in] and B [out, rank]", found)
    if not (a.isfinite().all() and b.isfinite().all()):
        raise AdapterFormatError(f"adapter: {name}", "must hold finite numbers", "NaN or infinity")
    values = adapter.spec.scaling_of(name) * product_singular_values(b, a)
    return LayerSpectrum(
        name=name,
        shape=(b.shape[0], a.shape[1]),
        rank=a.shape[0],
        norm_a=float(a.norm()),
        norm_b=float(b.norm()),
        norm_update=float(values.norm()),
        singular_values=tuple(values.tolist()),
    )


def product_singular_values(b: Tensor, a: Tensor) -> Tensor:
    """Singular values of B A without forming it: those of R_B R_A^T, from thin QRs.

    Args:
        b: [out, rank].
        a: [rank, in].

    Returns:
        fp64 [min(rank, out, in)], descending.
    """
    _, right_b = torch.linalg.qr(b.double())
    _, right_a = torch.linalg.qr(a.double().T)
    values: Tensor = torch.linalg.svdvals(right_b @ right_a.T)
    return values
