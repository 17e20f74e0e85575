"""The spectrum of a trained update: what an adapter's B A looks like, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lora_sweep.adapters import AdapterFile


@dataclass(frozen=True)
class LayerSpectrum:
    """One layer's update, scaling * B A.

    Attributes:
        name: full name of the layer.
        shape: (out, in) of its weight.
        rank: of the adapter here.
        norm_a, norm_b, norm_update: Frobenius norms of A, B and scaling * B A.
        singular_values: of scaling * B A, descending, as many as the rank.
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


def spectra(adapter: AdapterFile) -> list[LayerSpectrum]:
    """The spectrum of every layer, in the file's order."""
    modules = sorted(name.removesuffix(".lora_A.weight") for name in adapter.tensors if name.endswith(".lora_A.weight"))
    return [_spectrum(adapter, name) for name in modules]


def _spectrum(adapter: AdapterFile, name: str) -> LayerSpectrum:
    a, b = adapter.tensors[f"{name}.lora_A.weight"], adapter.tensors[f"{name}.lora_B.weight"]
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
    """Singular values of B A without forming it: those of R_B R_A^T, from thin QRs; fp64 [rank].

    Args:
        b: [out, rank], rank at most out.
        a: [rank, in], rank at most in.
    """
    _, right_b = torch.linalg.qr(b.double())
    _, right_a = torch.linalg.qr(a.double().T)
    return torch.linalg.svdvals(right_b @ right_a.T)
