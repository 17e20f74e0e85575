"""Which directions of a layer's weight the loss asks for, found on one half of the hold-out and judged on the other.

With G_i^T X_i the gradient of example i's mean loss at a layer's weight (see `gradients`), the mean gradient of one
half has the singular value decomposition M = U S V^T. Along its k-th direction u_k v_k^T an example of the *other* half
has the slope

    z_ik = <G_i^T X_i, u_k v_k^T> = sum over its tokens of (g_t . u_k) (x_t . v_k)

and the mean of z_k is the slope of the loss along that direction on examples that did not choose it: 0 on average where
there was nothing but noise. S itself would not do: the mean of n noisy gradients has large singular values wherever
there is noise, and the more so the larger the layer. The halves then change places.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lora_sweep.analysis.hooks import Reader, read_layers
from lora_sweep.analysis.session import AnalysisSession
from lora_sweep.engine.slot import Slot

MOST_ELEMENTS = 2**28
"""Elements of mean gradients that stand in memory at once (1 GiB in fp32); more layers take more passes."""


@dataclass(frozen=True)
class Slopes:
    """One layer's slopes along directions that the other examples gave.

    Attributes:
        halves: for each half of the hold-out fp64 [examples, k], the slopes of its examples along the other half's
            directions, in the order of falling singular values.
    """

    halves: tuple[np.ndarray, np.ndarray]


def measure_slopes(
    session: AnalysisSession,
    slot: Slot,
    most: Mapping[str, int],
    split: str,
    halves: tuple[np.ndarray, np.ndarray],
) -> dict[str, Slopes]:
    """The slopes of some layers along the directions that the loss asks for.

    Args:
        session: with an engine.
        slot: holds the adapter that is on.
        most: a layer's full name to how many directions, at most its smaller side.
        split: whose examples.
        halves: positions in the split, each ascending.
    """
    found: dict[str, list[np.ndarray]] = {name: [] for name in most}
    for judged, source in ((0, 1), (1, 0)):
        bases: dict[str, tuple[Tensor, Tensor]] = {}
        for group in _groups(session, list(most)):
            for name, gradient in _mean_gradients(session, slot, group, split, halves[source]).items():
                bases[name] = _directions(gradient, most[name])
        for name, values in slopes_along(session, slot, bases, split, halves[judged]).items():
            found[name].append(values)
    return {name: Slopes((first, second)) for name, (first, second) in found.items()}


def _groups(session: AnalysisSession, layers: Sequence[str]) -> Iterator[list[str]]:
    """The layers in groups whose weights are few enough."""
    group: list[str] = []
    size = 0
    for name in layers:
        own = next(session.engine.base.model.get_submodule(name).parameters()).numel()
        if group and size + own > MOST_ELEMENTS:
            yield group
            group, size = [], 0
        group.append(name)
        size += own
    yield group


def _mean_gradients(
    session: AnalysisSession, slot: Slot, layers: Sequence[str], split: str, examples: np.ndarray
) -> dict[str, Tensor]:
    sums: dict[str, Tensor] = {}

    def reader(name: str) -> Reader:
        def read(x: Tensor, g: Tensor, _examples: np.ndarray) -> None:
            product = g.flatten(0, 1).T @ x.flatten(0, 1)
            sums[name] = sums[name] + product if name in sums else product

        return read

    read_layers(session, slot, split, examples, {name: reader(name) for name in layers})
    return {name: total / len(examples) for name, total in sums.items()}


def _directions(gradient: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """The leading left [out, k] and right [in, k] singular vectors."""
    u, _, vh = torch.linalg.svd(gradient.double(), full_matrices=False)
    return u[:, :most].float(), vh[:most].T.float()


def slopes_along(
    session: AnalysisSession, slot: Slot, bases: Mapping[str, tuple[Tensor, Tensor]], split: str, examples: np.ndarray
) -> dict[str, np.ndarray]:
    """Each example's slope along given directions at each layer: fp64 [examples, k].

    Args:
        session: with an engine.
        slot: holds the adapter that is on.
        bases: a layer's full name to directions, fp32 [out, k] and [in, k].
        split: whose examples.
        examples: their positions, ascending.
    """
    found = {name: np.zeros((len(examples), u.shape[1])) for name, (u, _) in bases.items()}

    def reader(name: str) -> Reader:
        u, v = bases[name]

        def read(x: Tensor, g: Tensor, which: np.ndarray) -> None:
            slopes = ((g @ u) * (x @ v)).sum(dim=1)
            found[name][np.searchsorted(examples, which)] += slopes.double().cpu().numpy()

        return read

    read_layers(session, slot, split, examples, {name: reader(name) for name in bases})
    return found
