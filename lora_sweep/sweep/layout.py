"""Which engines a cluster gets: how many, where, with what.

`engines: auto` is one per GPU, or one per node when the cluster has no GPU. `slots: auto` is 8 on a GPU. On a CPU it is
4, or as few as 2 where their steps fill it: more would only need more memory, and a search would know less of what it
has begun. It is never more than there are trials.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lora_sweep.errors import ConfigError

TRIAL_CPUS = 0.02
"""What a trial claims: it waits for its engine and computes nothing."""
GPU_SLOTS = 8
CPU_SLOTS = 4
FEWEST_CPU_SLOTS = 2
"""One would leave the cores idle whenever its trial reports."""
FULL_THREAD_TOKENS = 500
"""Tokens of a step that fill a thread: a pack of twice as many takes twice as long, or longer."""


@dataclass(frozen=True)
class Node:
    """A machine of the cluster, with what Ray may give away on it."""

    node_id: str
    cpus: float
    gpus: float


@dataclass(frozen=True)
class Placement:
    """One engine's place.

    Attributes:
        node_id: where it must run; None: wherever a GPU is free.
        threads: torch threads (CPU).
        cpus: what it claims of Ray, a little less than it uses, so that trials still fit.
    """

    device: Literal["cpu", "cuda"]
    node_id: str | None
    threads: int
    cpus: float


def place_engines(nodes: Sequence[Node], engines: int | Literal["auto"]) -> list[Placement]:
    """Decide on the engines.

    Raises:
        ConfigError: more engines are asked for than there are GPUs, or than there are cores.
    """
    gpus = int(sum(node.gpus for node in nodes))
    if gpus:
        wanted = gpus if engines == "auto" else engines
        _check("GPUs", wanted, gpus)
        return [Placement("cuda", None, threads=1, cpus=0)] * wanted
    workers = [node for node in nodes if node.cpus >= 1]
    wanted = len(workers) if engines == "auto" else engines
    _check("CPU cores", wanted, int(sum(node.cpus for node in workers)))
    shares = _spread(wanted, [int(node.cpus) for node in workers])
    return [_on_cpu(node, share) for node, share in zip(workers, shares, strict=True) for _ in range(share)]


def choose_slots(
    placements: Sequence[Placement], slots: int | Literal["auto"], trials: int | None = None, tokens: float = 0.0
) -> int:
    """Slots of each engine.

    Args:
        placements: of the engines.
        slots: what the sweep asks for.
        trials: how many there will be; None gives the most slots that they may become.
        tokens: that the smallest step of any trial has on average, without padding; 0 where that is not known.
    """
    if slots != "auto":
        return slots
    wanted = GPU_SLOTS if placements[0].device == "cuda" else _cpu_slots(placements, tokens)
    return wanted if trials is None else max(1, min(trials, wanted))


def _cpu_slots(placements: Sequence[Placement], tokens: float) -> int:
    full = FULL_THREAD_TOKENS * max(placement.threads for placement in placements)
    enough = full // tokens if tokens else CPU_SLOTS
    return int(min(max(enough, FEWEST_CPU_SLOTS), CPU_SLOTS))


def read_nodes(nodes: Sequence[Mapping[str, Any]]) -> list[Node]:
    """The living nodes in what `ray.nodes()` gives."""
    return [
        Node(str(node["NodeID"]), float(node["Resources"].get("CPU", 0)), float(node["Resources"].get("GPU", 0)))
        for node in nodes
        if node["Alive"]
    ]


def _check(what: str, wanted: int, available: int) -> None:
    if wanted > available or available < 1:
        rule = f"must be at most the number of {what} in the cluster ({available})"
        raise ConfigError("resources.engines", rule, wanted, "Use auto, or a smaller number.")


def _spread(engines: int, cores: Sequence[int]) -> list[int]:
    """Engines of each node: first one each, the largest first; then to the node with most cores per engine."""
    shares = [0] * len(cores)
    for _ in range(engines):
        best = max(range(len(cores)), key=lambda node: (not shares[node], cores[node] / (shares[node] + 1)))
        shares[best] += 1
    return shares


def _on_cpu(node: Node, engines: int) -> Placement:
    cores = int(node.cpus)
    claim = (cores - 1) / engines if cores > 1 else 0.5 / engines
    # Ray counts in parts of a core only below one
    return Placement("cpu", node.node_id, max(1, cores // engines), int(claim) if claim >= 1 else round(claim, 2))
