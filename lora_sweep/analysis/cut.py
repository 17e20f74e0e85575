"""Cutting a trained update to lower ranks by its singular value decomposition.

    B A = U S V^T      cut to rank k:      B' = U_k sqrt(S_k) [out, k],    A' = sqrt(S_k) V_k^T [k, in]

The first k terms are the best approximation of rank k in the Frobenius norm, with the error sqrt(s_{k+1}^2 + ... +
s_r^2) (Eckart and Young, 1936). B A is never formed: with thin QRs B = Q_B R_B and A^T = Q_A R_A its decomposition
follows from that of the small R_B R_A^T.

Alpha goes with the rank: a cut keeps each layer's scaling alpha / rank, so a layer cut from r to k has alpha k / r
(`alpha_pattern` where layers differ). The adapter therefore behaves at every rank as it was trained, and trains on
at the effective rate that it had; the singular values are split evenly between A and B, whose norms then agree.

Trained biases are no part of B A: a cut keeps them. PEFT has them at adapted layers alone, so that a layer with a bias
that is cut to rank 0 stays adapted, with A and B of rank 1 that are zero.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lora_sweep.adapters import AdapterFile, bias_name
from lora_sweep.analysis.ranks import Ranks, with_ranks
from lora_sweep.errors import InputError


@dataclass(frozen=True)
class LayerSvd:
    """The decomposition of one layer's B A, all fp64; k is the smallest of rank, out and in.

    Attributes:
        u: [out, k], orthonormal columns.
        values: [k], descending, of B A without the scaling.
        v: [in, k], orthonormal columns.
        scaling: alpha / rank.
        rank: of the adapter here.
    """

    u: Tensor
    values: Tensor
    v: Tensor
    scaling: float
    rank: int

    @property
    def parameters_per_rank(self) -> int:
        """What one more rank costs here: in + out."""
        return self.u.shape[0] + self.v.shape[0]


Svds = Mapping[str, LayerSvd]


def decompose(adapter: AdapterFile) -> dict[str, LayerSvd]:
    """The decomposition of every layer's update, by the layer's full name."""
    found = {}
    for name in lora_layers(adapter):
        a, b = adapter.tensors[f"{name}.lora_A.weight"], adapter.tensors[f"{name}.lora_B.weight"]
        u, values, v = product_svd(b, a)
        found[name] = LayerSvd(u, values, v, adapter.spec.scaling_of(name), a.shape[0])
    return found


def lora_layers(adapter: AdapterFile) -> list[str]:
    """Full names of the layers that the adapter updates, sorted."""
    return sorted(name.removesuffix(".lora_A.weight") for name in adapter.tensors if name.endswith(".lora_A.weight"))


def product_svd(b: Tensor, a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """U [out, k], S [k] and V [in, k] of B A, in fp64.

    Args:
        b: [out, rank].
        a: [rank, in].
    """
    basis_b, right_b = torch.linalg.qr(b.double())
    basis_a, right_a = torch.linalg.qr(a.double().T)
    u, values, vh = torch.linalg.svd(right_b @ right_a.T, full_matrices=False)
    return basis_b @ u, values, basis_a @ vh.T


def cut(adapter: AdapterFile, svds: Svds, ranks: Ranks) -> AdapterFile:
    """The adapter with each layer's update cut to its own rank; biases and what it trains in full stay.

    Args:
        adapter: the whole one.
        svds: its decomposition.
        ranks: layer to rank, from 0 (the layer is left out, if it has no bias of its own) to the layer's own.

    Raises:
        InputError: `ranks` does not name exactly the adapter's layers, or a rank is out of range.
    """
    _check(svds, ranks)
    kept = {name: max(rank, 1) for name, rank in ranks.items() if rank > 0 or bias_name(name) in adapter.tensors}
    tensors = {name: value for name, value in adapter.tensors.items() if ".lora_" not in name}
    for name, rank in kept.items():
        svd, roots = svds[name], svds[name].values[:rank].sqrt()
        roots[ranks[name] :] = 0
        tensors[f"{name}.lora_A.weight"] = (roots[:, None] * svd.v[:, :rank].T).float().contiguous()
        tensors[f"{name}.lora_B.weight"] = (svd.u[:, :rank] * roots).float().contiguous()
    scalings = {name: svd.scaling for name, svd in svds.items()}
    return replace(adapter, spec=with_ranks(adapter.spec, kept, scalings), tensors=tensors)


def without(adapter: AdapterFile, layers: Collection[str]) -> AdapterFile:
    """The adapter without its update of these layers and their biases; all else, bit for bit, as it was."""
    kept = tuple(name for name in lora_layers(adapter) if name not in layers)
    left_out = [f"{name}.lora_{part}.weight" for name in layers for part in "AB"] + [bias_name(name) for name in layers]
    spec = adapter.spec.model_copy(
        update={
            "target_modules": kept,
            "rank_pattern": {name: rank for name, rank in adapter.spec.rank_pattern.items() if name in kept},
            "alpha_pattern": {name: alpha for name, alpha in adapter.spec.alpha_pattern.items() if name in kept},
        }
    )
    tensors = {name: value for name, value in adapter.tensors.items() if name not in left_out}
    return replace(adapter, spec=spec, tensors=tensors)


def uniform_ranks(svds: Svds, rank: int) -> dict[str, int]:
    """`rank` for every layer, or the layer's own where that is lower."""
    return {name: min(rank, len(svd.values)) for name, svd in svds.items()}


def layer_energy_ranks(svds: Svds, share: float) -> dict[str, int]:
    """For each layer the lowest rank that keeps `share` of that layer's energy, the sum of squared singular values."""
    return {name: _rank_of_share(svd.values.square(), share) for name, svd in svds.items()}


def global_energy_ranks(svds: Svds, share: float) -> dict[str, int]:
    """The fewest singular values, the largest of all layers first, that keep `share` of the whole update's energy.

    Values are compared with their layers' scalings; a layer may get rank 0.
    """
    energies = [(svd.scaling * svd.values).square() for svd in svds.values()]
    ordered = torch.cat(energies).sort(descending=True, stable=True)
    owners = torch.cat([torch.full((len(e),), i) for i, e in enumerate(energies)])[ordered.indices]
    kept = owners[: _rank_of_share(ordered.values, share)].tolist()
    counts = Counter(kept)
    return {name: counts[i] for i, name in enumerate(svds)}


def budget_ranks(svds: Svds, parameters: int) -> dict[str, int]:
    """The largest singular values of all layers, with their layers' scalings, that a number of parameters pays for."""
    values = [
        (float(value) * svd.scaling, place, name)
        for place, (name, svd) in enumerate(svds.items())
        for value in svd.values
    ]
    ranks, left = dict.fromkeys(svds, 0), parameters
    for _, _, name in sorted(values, key=lambda one: (-one[0], one[1])):
        if svds[name].parameters_per_rank <= left:
            ranks[name] += 1
            left -= svds[name].parameters_per_rank
    return ranks


def energy_kept(svds: Svds, ranks: Ranks) -> float:
    """The share of the whole update's energy that a cut keeps; 1 for a zero update."""
    kept = sum(float((svd.scaling * svd.values[: ranks[name]]).square().sum()) for name, svd in svds.items())
    total = sum(float((svd.scaling * svd.values).square().sum()) for svd in svds.values())
    return kept / total if total else 1.0


def _rank_of_share(energies: Tensor, share: float) -> int:
    """How many of the descending energies make up the share; 0 when all are 0."""
    if not 0 < share <= 1:
        raise InputError("energy share", "must be above 0 and at most 1", share)
    total = float(energies.sum())
    if total == 0:
        return 0
    # rounding must not ask for one value more than it takes
    reached = energies.cumsum(0) >= share * total * (1 - 1e-12)
    return int(reached.nonzero()[0]) + 1


def _check(svds: Svds, ranks: Ranks) -> None:
    if set(ranks) != set(svds):
        odd = sorted(set(ranks) ^ set(svds))[0]
        raise InputError("ranks", "must name exactly the adapter's layers", odd)
    for name, rank in ranks.items():
        if not 0 <= rank <= len(svds[name].values):
            raise InputError(f"ranks: {name}", f"must be from 0 to {len(svds[name].values)}", rank)
