"""`python -m lora_sweep` is `lora-sweep`."""

from lora_sweep.cli import main

main()
