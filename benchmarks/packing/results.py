"""Figures as a table and as JSON, with the circumstances that they were taken in."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import peft
import torch
import transformers

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
UNFORESEEN = "unforeseen: "
"""Begins the failure of a cell that is no want of memory."""


class Report:
    """A JSON file that is written anew after every cell, so that a run that is cut off loses nothing.

    Args:
        what: name of the benchmark.
        device: `cpu` or `cuda`.
        settings: what the benchmark was asked for.
        output: the file; by default `benchmarks/results/packing_WHAT_DEVICE.json`.
    """

    def __init__(self, what: str, device: str, settings: dict[str, Any], output: Path | None) -> None:
        self.file = output or RESULTS / f"packing_{what}_{_slug(device_name(device))}.json"
        self.content: dict[str, Any] = {
            "benchmark": f"packing/{what}.py",
            **circumstances(device),
            "settings": settings,
            "cells": [],
        }

    def add(self, cell: dict[str, Any]) -> None:
        """Append a cell and write the file."""
        self.content["cells"].append(cell)
        self.write()

    def write(self) -> None:
        """Write what is there."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(json.dumps(self.content, indent=1) + "\n", encoding="utf-8")


def failure(error: Exception) -> str:
    """What a cell has in place of its figures when something unforeseen went wrong: the error and where it was."""
    *_, place = traceback.extract_tb(error.__traceback__)
    message = " ".join(str(error).split())[:300]
    return f"{UNFORESEEN}{type(error).__name__}: {message} ({Path(place.filename).name}:{place.lineno})"


def circumstances(device: str) -> dict[str, Any]:
    """Where and when a figure was taken."""
    return {
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "peft": peft.__version__,
        },
    }


def device_name(device: str) -> str:
    """Human-readable name of the processor or the GPU."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return f"cpu {name}"


def commit() -> str:
    """The commit of the working tree, `+` where it was changed since; `unknown` outside of a repository."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", "lora_sweep", "benchmarks/packing")
        return git("rev-parse", "--short", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def spread(values: Sequence[float]) -> dict[str, float]:
    """Smallest, median and largest, to four digits."""
    chosen = {"min": min(values), "median": statistics.median(values), "max": max(values)}
    return {name: float(f"{value:.4g}") for name, value in chosen.items()}


def shown(value: dict[str, float] | None) -> str:
    """A spread as `min/median/max`."""
    return "–" if value is None else f"{value['min']:.2f}/{value['median']:.2f}/{value['max']:.2f}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned by blanks."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in (header, *rows)]
    return "\n".join(line.rstrip() for line in lines)


def say(text: str) -> None:
    """Print a result."""
    print(text, flush=True)


def note(text: str) -> None:
    """Print what has been measured so far, to stderr."""
    print(text, file=sys.stderr, flush=True)


def common_arguments(description: str | None, seconds: float) -> argparse.ArgumentParser:
    """The options that all benchmarks of the folder share."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=["auto", "float32", "bfloat16"], default="auto", help="of the base")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of torch, on a CPU")
    parser.add_argument("--models", nargs="+", metavar="NAME", help="only these shapes")
    parser.add_argument("--seconds", type=float, default=seconds, help="budget; what does not fit is skipped and named")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved repetitions, at least 3")
    parser.add_argument("--turn", type=float, default=0.3, help="seconds of one repetition")
    parser.add_argument("--output", type=Path, help="JSON; default benchmarks/results/packing_WHAT_DEVICE.json")
    return parser


def settings_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options as JSON takes them."""
    plain = {name: value for name, value in vars(arguments).items() if name not in {"output", "device"}}
    return plain | {"command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])}


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
