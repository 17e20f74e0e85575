from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from lora_sweep.garbage import collection_paused

ENDING = """
import atexit, gc
from lora_sweep.garbage import end_without_collection

atexit.register(lambda: print(gc.get_freeze_count() > 1000, gc.get_count()[2]))  # the last comes first
end_without_collection()
"""


@pytest.mark.parametrize("enabled", [True, False])
def test_a_pause_leaves_the_collector_as_it_was(enabled):
    before = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        with pytest.raises(KeyError), collection_paused():
            assert not gc.isenabled()
            raise KeyError
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if before else gc.disable)()


def test_an_ending_process_has_nothing_left_to_look_through():
    done = subprocess.run([sys.executable, "-c", ENDING], capture_output=True, text=True, check=True)
    assert done.stdout == "True 0\n"
