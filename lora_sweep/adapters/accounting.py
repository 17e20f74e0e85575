"""What an adapter costs before anything is trained: parameters, share, bytes. Works on a model on the meta device.

A LoRA pair on a layer of `in` x `out` features has rank * (in + out) parameters (arXiv 2106.09685, section 4.2).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from lora_sweep.adapters.model import AdaptedModel
from lora_sweep.adapters.names import is_bias
from lora_sweep.records import AdapterSpec

BYTES_PER_PARAMETER = {"float32": 4, "bfloat16": 2, "float16": 2, "int8": 1}


@dataclass(frozen=True)
class ParameterCount:
    """Parameters of one configuration.

    Attributes:
        base: of the base model, its head included.
        lora: of the A and B matrices.
        biases: of the adapted layers, where they are trained.
        trained_in_full: of the modules trained in full beside them (a task head).
        layers: adapted layers.
    """

    base: int
    lora: int
    biases: int
    trained_in_full: int
    layers: int

    @property
    def trainable(self) -> int:
        return self.lora + self.biases + self.trained_in_full

    @property
    def share(self) -> float:
        """Trainable parameters over the base's."""
        return self.trainable / self.base

    @property
    def reduction(self) -> float:
        """How many times fewer parameters train than in full fine-tuning; infinite when none train."""
        return self.base / self.trainable if self.trainable else float("inf")

    def adapter_bytes(self, dtype: str = "float32") -> int:
        """Size of the adapter's tensors on disk in the given precision."""
        return self.trainable * BYTES_PER_PARAMETER[dtype]


def count_parameters(adapted: AdaptedModel, spec: AdapterSpec) -> ParameterCount:
    """Count what `spec` trains on this base, without building it.

    Raises:
        TargetError: as for `AdaptedModel.add`.
    """
    shapes = adapted.shapes(spec)
    lora = sum(_elements(shape) for name, shape in shapes.items() if ".lora_" in name)
    biases = sum(_elements(shape) for name, shape in shapes.items() if is_bias(name))
    total = sum(_elements(shape) for shape in shapes.values())
    layers = sum(name.endswith(".lora_A.weight") for name in shapes)
    return ParameterCount(base_parameters(adapted.model), lora, biases, total - lora - biases, layers)


def base_parameters(model: nn.Module) -> int:
    """Parameters of the base; tied ones count once."""
    return sum(parameter.numel() for parameter in model.parameters())


def _elements(shape: tuple[int, ...]) -> int:
    total = 1
    for side in shape:
        total *= side
    return total
