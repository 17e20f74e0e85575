"""The command itself: what it loads, its version, what it says first."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lora_sweep import __version__
from lora_sweep.cli.recommending import _print

HEAVY = ("torch", "ray", "transformers", "pandas", "plotly")


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["spaces"], ["spaces", "--json"]])
def test_help_and_spaces_load_nothing_heavy(tmp_path, arguments):
    code = (
        "import atexit, sys; from lora_sweep.cli import main; sys.argv[1:] = " + repr(arguments) + "\n"
        f"atexit.register(lambda: print('LOADED', sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr))\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout
    assert done.stderr == "LOADED []\n"


def test_reading_commands_do_not_load_torch(swept):
    code = (
        "import atexit, sys; from lora_sweep.cli import main\n"
        "atexit.register(lambda: print('LOADED', sorted({'torch', 'ray'} & set(sys.modules)), file=sys.stderr))\n"
        "sys.argv[1:] = ['pick', 'runs/one']; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=swept[0], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "LOADED []\n")


def test_the_version(tmp_path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lora_sweep", "--version"], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"lora-sweep {__version__}\n", "")


def test_a_recommendation_begins_with_its_verdict(capsys) -> None:
    layers = [{"name": "q", "depth": 0, "kind": "q", "uniform_rank": 2, "rank": 3}]
    _print({"layers": layers}, ["Verdict: inconclusive.", "By trial a."], Path("next.yaml"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Verdict: inconclusive." and lines[3].split() == ["block", "q"]
