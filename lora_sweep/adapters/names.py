"""Names of an adapter's tensors."""

from __future__ import annotations

_BIAS = ".base_layer.bias"


def lora_names(module: str) -> tuple[str, str]:
    """The names of a layer's A and B."""
    return f"{module}.lora_A.weight", f"{module}.lora_B.weight"


def bias_name(module: str) -> str:
    """The name of a layer's trained bias, PEFT's."""
    return module + _BIAS


def is_bias(name: str) -> bool:
    """Whether this tensor of an adapter is the trained bias of an adapted layer."""
    return name.endswith(_BIAS)
