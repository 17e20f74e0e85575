"""Names of an adapter's tensors."""

from __future__ import annotations


def lora_names(module: str) -> tuple[str, str]:
    """The names of a layer's A and B."""
    return f"{module}.lora_A.weight", f"{module}.lora_B.weight"
