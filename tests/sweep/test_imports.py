from __future__ import annotations

import subprocess
import sys


def test_trial_and_broker_processes_load_no_torch():
    code = (
        "import sys, lora_sweep.sweep.trial, lora_sweep.sweep.broker\n"
        "assert not {'torch', 'transformers', 'datasets'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
