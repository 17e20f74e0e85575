"""lora_sweep answers "which LoRA?": it searches adapter configurations on Ray Tune and reports what it found."""

__version__ = "0.1.0"
