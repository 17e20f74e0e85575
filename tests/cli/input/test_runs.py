"""Runs, picks, adapters and calls that cannot be."""

from __future__ import annotations

import pytest

from lora_sweep.records import TrialConfig, TrialRecord
from lora_sweep.store import RunFolder

NO_RUN = "must be a run folder (with a run.json inside). `lora-sweep run` makes one and prints its path."


@pytest.mark.parametrize("command", ["resume", "report", "pick"])
def test_what_is_no_run(place, call, command, refused):
    (place.folder / "folder").mkdir()
    for name in ("folder", "gone", "train.csv"):
        refused(call(command, name), f"{name}: {NO_RUN}")
    assert not list((place.folder / "folder").iterdir())


def test_picks_that_cannot_be(place, call, run, refused):
    refused(
        call("pick", "run", "--max-parameters", 999),
        "--max-parameters: must leave at least one candidate, got 999. The nearest is 000-abc with 1,000 parameters.",
    )
    refused(
        call("pick", "run", "--trial", "000-abd"),
        "--trial: must be a trial of run, or a cut of one, got '000-abd'. Close to it: 000-abc, 001-abc.",
    )
    refused(
        call("pick", "run", "--trial", "001-abc", "--max-parameters", 1000),
        "--max-parameters: must have room for 001-abc with 5,000 parameters, got 1000. Leave out one of the two.",
    )
    for option, value, message in (
        ("--max-parameters", "few", "must be a number of at least 1, such as 300k or 4M, got 'few'"),
        ("--max-bytes", "0", "must be a number of at least 1, such as 300k or 4M, got '0'"),
        ("--max-latency", "3", "must leave at least one candidate, got 3.0. No candidate has a measured latency."),
        ("--max-latency", "-3", "must be above 0, got -3.0"),
        ("--min-quality", "80", "must be between 0 and 1, got 80.0. Accuracy is a share: write 0.7 or 70%."),
        ("--min-quality", "99%", "must leave at least one candidate, got 0.99. The nearest is 001-abc with 60.0 %"),
        ("--cost", "weight", "must be of parameters, bytes, latency, memory, train-time, got 'weight'"),
        ("--cost", "bytes,latency", "must have weights above 0, got 'bytes,latency'."),
        ("--parsimony", "strict", "must be tie-set or one-standard-error, got 'strict'"),
    ):
        code, out, err = call("pick", "run", option, value)
        assert (code, out) == (2, "") and err.startswith(f"error: {option}: {message}"), err
    refused(call("pick", "run", "--merge"), "--merge: must go with --export. Add --export DIR.")
    refused(call("pick", "run", "--no-check"), "--no-check: must go with --export. Add --export DIR.")
    refused(
        call("pick", "run", "--export", "out"),
        "run/adapters/001-abc: must hold the trial's adapter; it is not there. Pick another trial.",
    )
    (run.adapter_dir("001-abc")).mkdir()
    (place.folder / "there").mkdir()
    refused(
        call("pick", "run", "--export", "there"),
        "there: the export folder must not exist yet. Choose another, or remove it.",
    )
    assert not (place.folder / "out").exists()
    assert not list((place.folder / "there").iterdir())


def test_a_pick_of_a_run_whose_trials_all_failed(place, call, refused):
    folder = RunFolder.create(place.folder / "run")
    folder.write_info({"status": "complete", "metric": {"name": "accuracy", "mode": "max", "keep": "best"}})
    folder.append_record(TrialRecord(trial_id="a", status="failed", config=TrialConfig(), error="boom"))
    refused(
        call("pick", "run"),
        "run: must hold a trial with an evaluation of accuracy, got '1 trial, 1 failed'. "
        "The report lists the reasons of failed trials.",
    )


def test_what_is_no_adapter(place, call):
    (place.folder / "folder").mkdir()
    for name in ("folder", "gone"):
        code, out, err = call("inspect", name)
        assert (code, out) == (2, "")
        assert err.startswith(f"error: {name}: must be an adapter folder, with adapter_config.json inside")
        assert err.count("\n") == 1


def test_a_report_into_a_folder(place, call, run):
    (place.folder / "folder").mkdir()
    code, out, err = call("report", "run", "--output", "folder")
    assert (code, out) == (2, "")
    last = err.splitlines()[-1]
    assert last.startswith("Error: Invalid value for '--output': ") and last.endswith("'folder' is a directory.")
    assert not (place.folder / "folder.part").exists()


def test_a_wrong_usage_is_told_in_plain_text(call):
    assert call("rnu") == (
        2,
        "",
        "Usage: lora-sweep [OPTIONS] COMMAND [ARGS]...\nTry 'lora-sweep --help' for help.\n\n"
        "Error: No such command 'rnu'. Did you mean 'run'?\n",
    )


def test_what_the_file_system_refuses(place, call, run):
    code, out, err = call("report", "run", "--output", "train.csv/x.html")
    assert (code, out) == (1, "")
    assert err == "error: train.csv: File exists\n"
