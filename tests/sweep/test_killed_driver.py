from __future__ import annotations

import shutil
import subprocess
import sys
import time

import pytest

from lora_sweep.sweep.driver import run_sweep

DRIVER = """
import sys
from pathlib import Path
from lora_sweep.model_files import load_tokenizer
from lora_sweep.store import RunFolder
from lora_sweep.sweep.driver import run_sweep
from lora_sweep.sweep_file import load_sweep
from lora_sweep.tasks import prepare_task

run = RunFolder(Path(sys.argv[1]))
config = load_sweep(run.sweep_file)
run_sweep(config, prepare_task(config.task, load_tokenizer(config.model), seed=0), run)
"""


@pytest.mark.slow
@pytest.mark.parametrize("checkpoints", ["there", "gone"])
def test_a_killed_driver_is_resumed_without_running_a_finished_trial_twice(make_sweep, diary, local_ray, checkpoints):
    sweep = make_sweep(search={"algorithm": "random", "trials": 7, "seed": 3}, resources={"slots": 2})
    sweep.run.sweep_file.write_text(sweep.config.to_yaml())
    ledger = sweep.run.path / "trials.jsonl"
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(sweep.run.path)])
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (not ledger.exists() or len(ledger.read_text().splitlines()) < 3):
        time.sleep(0.02)
    driver.kill()
    driver.wait()
    before = {record.trial_id: record for record in sweep.run.records()}
    assert 3 <= len(before) < 7
    assert sweep.run.info()["status"] == "running"
    if checkpoints == "gone":  # the snapshot may be older than any of them
        for checkpoint in (sweep.run.path / "tune").glob("sweep/*/checkpoint_*"):
            shutil.rmtree(checkpoint)
    written = {name: weights(sweep, name).stat().st_mtime_ns for name in before}

    run_sweep(sweep.config, sweep.task, sweep.run, listener=diary)
    records = {record.trial_id: record for record in sweep.run.records()}
    assert len(ledger.read_text().splitlines()) == len(records) == 7
    assert {record.config.fingerprint() for record in records.values()} == fingerprints(sweep)
    assert all(record.status == "complete" for record in records.values())
    assert all(records[name] == record for name, record in before.items())
    assert {name: weights(sweep, name).stat().st_mtime_ns for name in before} == written
    assert not before.keys() & set(diary.begun)


def weights(sweep, trial_id):
    return sweep.run.adapter_dir(trial_id) / "adapter_model.safetensors"


def fingerprints(sweep):
    from lora_sweep.sweep.candidates import list_candidates

    candidates = list_candidates(sweep.config, len(sweep.task.splits["train"]))
    return {candidate.config.fingerprint() for candidate in candidates}
