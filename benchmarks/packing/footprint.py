"""How much memory a process or a device has needed."""

from __future__ import annotations

from pathlib import Path

import torch

from lora_sweep.engine.memory import peak_bytes


def begin(device: torch.device) -> None:
    """Forget the peak so far; on a CPU it cannot be forgotten, a fresh process is needed."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)


def peak(device: torch.device) -> int:
    """Bytes: `max_memory_allocated` of a GPU, the largest resident set of this process on a CPU.

    Linux's VmHWM rather than `ru_maxrss`, which begins at the size of the process that started this one.
    """
    status = Path("/proc/self/status")
    if device.type == "cuda" or not status.exists():
        return peak_bytes(device)
    lines = status.read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def device_free(device: str) -> int | None:
    """Bytes free on a GPU, whoever uses the others; None on a CPU."""
    return int(torch.cuda.mem_get_info()[0]) if device == "cuda" else None
