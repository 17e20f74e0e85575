"""What a sweep would train: the parameters of every set of targets and rank in its space, before any training."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lora_sweep.adapters import AdaptedModel, count_parameters
from lora_sweep.models import FrozenBase
from lora_sweep.preflight import check_space
from lora_sweep.records import AdapterSpec

if TYPE_CHECKING:
    from lora_sweep.config import SweepConfig

MOST_SHOWN = 80
"""Letters of module names that are shown beside the name of a set of targets."""


@dataclass(frozen=True)
class PlanRow:
    """One set of targets at one rank.

    Attributes:
        target_label: the space's name for the targets.
        targets: the group, or the modules with a space between them.
        rank: of every layer that the space gives no rank of its own.
        ranks: of all layers, as `8` or `1 to 31`.
        layers: adapted layers.
        lora_parameters: of A and B.
        bias_parameters: of the adapted layers' biases, where they are trained.
        trainable_parameters: with a task head.
        share: of the base's parameters.
        reduction: times fewer than in full fine-tuning.
        adapter_bytes_fp32: of the tensors on disk, in fp32.
        adapter_bytes_bf16: in bf16.
    """

    target_label: str
    targets: str
    rank: int
    ranks: str
    layers: int
    lora_parameters: int
    bias_parameters: int
    trainable_parameters: int
    share: float
    reduction: float
    adapter_bytes_fp32: int
    adapter_bytes_bf16: int

    @property
    def target_text(self) -> str:
        """The name of the targets, with the modules beside it where they are not the same and not too many."""
        if self.target_label == self.targets or len(self.targets) > MOST_SHOWN:
            return self.target_label
        return f"{self.target_label} ({self.targets})"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def planned_trials(config: SweepConfig) -> int:
    """How many trials there will be: a grid has every configuration, any other search no more than there are.

    Every configuration is as many trials as `search.repeats` says; the finalists' new seeds come on top.
    """
    size = config.resolved_space().size()
    configurations = config.search.trials if size is None else min(size, config.search.trials)
    if size is not None and config.search.algorithm == "grid":
        configurations = size
    return configurations * config.search.repeats


def plan_sweep(config: SweepConfig, base: FrozenBase, place: str) -> list[PlanRow]:
    """The rows of the plan, smallest first.

    Raises:
        TargetError: an adapter of the space does not fit the base.
    """
    specs = check_space(config, base, place)
    adapted = AdaptedModel(base.model, base.trained, base.new, base.called)
    rows = []
    for label, spec in specs:
        count = count_parameters(adapted, spec)
        targets = spec.target_modules if isinstance(spec.target_modules, str) else " ".join(spec.target_modules)
        rows.append(
            PlanRow(
                label or targets, targets, spec.rank, _ranks(spec, count.layers), count.layers, count.lora,
                count.biases, count.trainable, count.share, count.reduction, count.adapter_bytes("float32"),
                count.adapter_bytes("bfloat16"),
            )
        )  # fmt: skip
    return sorted(rows, key=lambda row: (row.trainable_parameters, row.targets))


def _ranks(spec: AdapterSpec, layers: int) -> str:
    found = {*spec.rank_pattern.values(), *([spec.rank] if len(spec.rank_pattern) < layers else [])}
    return str(spec.rank) if len(found) < 2 else f"{min(found)} to {max(found)}"
