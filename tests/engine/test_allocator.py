"""The C library takes the settings, and large blocks then come from memory that is kept."""

from __future__ import annotations

import subprocess
import sys

import pytest

# a process of its own: the settings stay for its whole life
PROGRAM = """
import resource, torch
from lora_sweep.engine.allocator import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(8_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(faults(), keep_freed_memory(), faults(), faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's settings")
def test_freed_memory_is_used_again() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    before, taken, _, after = done.stdout.split()
    assert taken == "True"
    assert int(after) < int(before) / 5
