"""The packed engine beside PEFT and beside its own floor: speed, memory, where the time goes."""
