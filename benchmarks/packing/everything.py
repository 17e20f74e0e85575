"""All that this folder measures, and the tests that need a GPU, within a budget of time.

    python benchmarks/packing/everything.py [--minutes 9] [--output DIR]

Parts run one after the other, each in a process of its own with its share of the time, the most important cells first:

1. the tests marked `gpu` but those with many draws, where pytest is installed (of the files that hold such tests);
2. throughput against sequential PEFT, 135M and 0.5B with batch 1 to 4, then 8B and others;
3. the floor at packs of 16 and 4: q and v at rank 8, all-linear at 16 and 64;
4. the profile of single steps;
5. peak memory;
6. throughput against concurrent processes.

What a part leaves of its time goes to those after it. Every part writes `DIR/PART.json` anew after each cell, and what
it measures goes into `DIR/everything.log` at once, so that a run that is cut off leaves what it has. A part that
overruns its share is ended a little later. Exit code 1 when the tests or a part failed.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]
from packing.results import UNFORESEEN  # noqa: E402  the path must be there before

TEST_OPTIONS = ("-m", "gpu", "-k", "not near_solo", "--maxfail", "3", "--tb", "short")
"""The many draws of `make test-gpu` take longer than there is."""
HERE = Path(__file__).parent
ROOT = HERE.parents[1]
GRACE = 20.0  # seconds that a part may take beyond its share, to start up and to end its last cell


@dataclass(frozen=True)
class Part:
    """A command with its weight in what is left of the time when it begins."""

    name: str
    words: tuple[str, ...]
    share: float

    def command(self, seconds: float, output: Path) -> list[str]:
        """What to run, told to end within these seconds."""
        if self.words[0] == "-m":
            return [sys.executable, *self.words]
        budget = ["--seconds", f"{max(5.0, seconds):.0f}", "--output", str(output / f"{self.name}.json")]
        return [sys.executable, str(HERE / self.words[0]), *self.words[1:], *budget]


def main() -> None:
    """Run part after part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--grid", help="of all parts; by default each part's own for the device")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "packing_everything")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "everything.log").unlink(missing_ok=True)
    deadline = time.monotonic() + 60 * arguments.minutes - GRACE
    outcomes = []
    chosen = parts(arguments.device, arguments.grid)
    for number, part in enumerate(chosen):
        left = deadline - time.monotonic()
        if left < 10:
            outcomes.append((part.name, "skipped: no time left"))
            continue
        share = left * part.share / sum(one.share for one in chosen[number:])
        outcomes.append((part.name, run(part, share, min(share + GRACE, left + GRACE), arguments.output)))
    print("\n" + "\n".join(f"{name:24s}{outcome}" for name, outcome in outcomes))
    print(f"written to {arguments.output}", flush=True)
    sys.exit(any(outcome.startswith("failed") for _, outcome in outcomes))


def parts(device: str, grid: str | None) -> list[Part]:
    """What runs, in order."""
    common = ("--device", device)
    cells = ("--grid", grid) if grid else ()
    models = ("--models", "tiny-bert") if grid == "tiny" else ()
    adapters = ("--adapters", "attention-qv:8", "all-linear:16") + (() if grid == "tiny" else ("all-linear:64",))
    packs = ("--packs", "16", "4")
    tests = [Part("tests", ("-m", "pytest", *TEST_OPTIONS, *gpu_tests()), 10)] if device == "cuda" else []
    if not importlib.util.find_spec("pytest") or not gpu_tests():
        tests = []
    return [
        *tests,
        Part("throughput", ("throughput.py", *common, *cells, "--concurrent", "0"), 40),
        Part("floor", ("floor.py", *common, *models, *packs, *adapters), 30),
        Part("profile", ("profile_step.py", *common, *cells), 10),
        Part("memory", ("memory.py", *common, *cells), 10),
        Part("concurrent", ("throughput.py", *common, *cells, "--packs", "16", "--concurrent", "99"), 15),
    ]


def gpu_tests() -> list[str]:
    """The test files that hold tests for a GPU; others may need packages that a GPU machine lacks."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return [str(file.relative_to(ROOT)) for file in files if "mark.gpu" in file.read_text(encoding="utf-8")]


def run(part: Part, seconds: float, limit: float, output: Path) -> str:
    """One part, shown and written as it prints; what came of it."""
    print(f"\n== {part.name}: {seconds:.0f} s", flush=True)
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1"}
    start = time.monotonic()
    # the share holds the start of Python and torch too
    command = part.command(seconds - 10, output)
    with (output / "everything.log").open("a", encoding="utf-8") as log:
        log.write(f"== {part.name}: {' '.join(command)}\n")
        log.flush()
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=log, encoding="utf-8"
        )
        try:
            printed, _ = process.communicate(timeout=limit)
            code: int | None = process.returncode
        except subprocess.TimeoutExpired:
            process.kill()
            printed, _ = process.communicate()
            code = None
        log.write(printed + "\n")
    print(printed.strip(), flush=True)
    took = f"after {time.monotonic() - start:.0f} s"
    if code is None:
        return f"{'failed: ' if part.name == 'tests' else ''}cut off {took}; what it had is written"
    if (figures := output / f"{part.name}.json").exists() and UNFORESEEN in figures.read_text(encoding="utf-8"):
        return f"failed in a cell {took}"
    return f"done {took}" if code in (0, 5) else f"failed with exit code {code} {took}"  # pytest's 5: no tests


if __name__ == "__main__":
    main()
