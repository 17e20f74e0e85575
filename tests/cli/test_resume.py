"""Interrupting and resuming a sweep as a user does."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from lora_sweep.cli.sweeps import _is_complete
from lora_sweep.store import RunFolder


def test_resuming_a_complete_run_changes_nothing(swept, run, lora_sweep):
    before = (run.path / "trials.jsonl").read_bytes()
    adapters = {p: p.read_bytes() for p in (run.path / "adapters").rglob("*") if p.is_file()}
    outcomes = {record.trial_id: run.outcomes(record.trial_id) for record in run.records()}
    test_metrics = run.analysis("finalists")
    started = run.info()["started"]
    done = lora_sweep("resume", "runs/one", folder=swept[0])
    assert (done.returncode, done.stderr) == (0, "")
    assert (run.path / "trials.jsonl").read_bytes() == before
    assert {p: p.read_bytes() for p in (run.path / "adapters").rglob("*") if p.is_file()} == adapters
    for trial_id, frame in outcomes.items():
        pd.testing.assert_frame_equal(run.outcomes(trial_id), frame)
    assert run.analysis("finalists") == test_metrics
    info = run.info()
    assert (info["status"], info["started"], info["trials"]["complete"]) == ("complete", started, 3)
    assert info["command"].startswith("lora-sweep run")


@pytest.mark.slow
def test_sigterm_interrupts_and_a_running_sweep_is_not_resumed(swept, lora_sweep):
    command = [
        sys.executable,
        "-m",
        "lora_sweep",
        "run",
        "sweep.yaml",
        "--name",
        "long",
        "--set",
        "budget.steps=100000",
    ]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    running = subprocess.Popen(command, cwd=swept[0], env=environment, stderr=subprocess.PIPE, text=True)
    folder = swept[0] / "runs" / "long"
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not list((folder / "tune").glob("sweep/*/checkpoint_*")):
            assert running.poll() is None
            time.sleep(0.1)
        before = (folder / "run.json").read_bytes()
        second = lora_sweep("resume", folder, folder=swept[0])
        assert (second.returncode, second.stdout) == (2, "")
        assert second.stderr.startswith(f"error: {folder}: must not be run by another process")
        assert (folder / "run.json").read_bytes() == before
        running.send_signal(signal.SIGTERM)
        err = running.communicate(timeout=60)[1]
    finally:
        running.kill()
        running.wait()
    assert (running.returncode, err) == (1, "error: interrupted; go on with: lora-sweep resume runs/long\n")
    assert RunFolder.open(folder).info()["status"] == "interrupted"


def test_a_run_is_complete_when_nothing_is_left(run, tmp_path):
    def changed(name, change):
        copied = RunFolder.open(shutil.copytree(run.path, tmp_path / name, ignore=shutil.ignore_patterns("tune")))
        change(copied)
        return _is_complete(copied)

    failed = run.records()[0].model_copy(update={"trial_id": "x", "status": "failed"})
    assert _is_complete(run)
    assert not changed("interrupted", lambda copied: copied.write_info(run.info() | {"status": "interrupted"}))
    assert not changed("unmeasured", lambda copied: (copied.path / "analysis" / "finalists.json").unlink())
    assert not changed("failed", lambda copied: copied.append_record(failed))


@pytest.mark.parametrize("status", ["complete", "interrupted"])
def test_resume_refuses_changed_data(swept, run, tmp_path, lora_sweep, status):
    copied = shutil.copytree(run.path, tmp_path / "run", ignore=shutil.ignore_patterns("tune"))
    RunFolder.open(copied).write_info(run.info() | {"status": status})
    sweep = yaml.safe_load((copied / "sweep.yaml").read_text())
    changed = tmp_path / "eval.csv"
    changed.write_text(Path(sweep["task"]["data"]["eval"]).read_text() + "good,positive\n")
    sweep["task"]["data"]["eval"] = str(changed)
    (copied / "sweep.yaml").write_text(yaml.safe_dump(sweep))
    before = (copied / "run.json").read_bytes()
    done = lora_sweep("resume", copied, folder=swept[0])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: run.json: data.eval: must still have the hash ")
    assert (copied / "run.json").read_bytes() == before
