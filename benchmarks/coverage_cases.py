"""What the benchmarks of coverage share: cases on simulated data, a line each, and a file of all of them."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results"


def parser_of(description: str, name: str) -> argparse.ArgumentParser:
    """The options that all have: how often, and where to; by default into results/NAME.json."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--repetitions", type=int, default=1000)
    parser.add_argument("--output", type=Path, default=RESULTS / f"{name}.json")
    return parser


def run_cases(
    cases: Iterable[dict[str, Any]],
    run_case: Callable[..., dict[str, float]],
    head: Callable[[Mapping[str, Any]], str],
    arguments: argparse.Namespace,
    facts: Mapping[str, Any],
) -> None:
    """Run every case; after each one print its line and write the file anew.

    Args:
        cases: keyword arguments of `run_case`, which takes `repetitions` too and gives the figures.
        run_case: one case.
        head: what a line begins with.
        arguments: of `parser_of`.
        facts: what else the file says; `columns` among them, the figures with their meaning.
    """
    rows: list[dict[str, Any]] = []
    for case in cases:
        started = time.perf_counter()
        figures = run_case(**case, repetitions=arguments.repetitions)
        seconds = time.perf_counter() - started
        rows.append(case | figures | {"seconds": round(seconds, 1)})
        told = " ".join(f"{name} {value:.3f}" for name, value in figures.items())
        print(f"{head(case)}{told} {seconds:.0f} s", flush=True)
        _write(arguments.output, rows, {"repetitions": arguments.repetitions, **facts})


def averages(found: Sequence[Mapping[str, float]], columns: Iterable[str]) -> dict[str, float]:
    """The mean of every figure over the repetitions."""
    return {name: float(np.mean([one[name] for one in found])) for name in columns}


def _write(output: Path, rows: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]) -> None:
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent)
    about = {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit.stdout.strip(),
        "device": f"{platform.machine()}, {os.cpu_count()} cores",
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(about | dict(facts) | {"rows": rows}, indent=1) + "\n", encoding="utf-8")
