"""Where the time of one packed step goes: the operations that took longest, and how long a GPU waited.

    python benchmarks/packing/profile_step.py [--models smollm2-135m] [--pack 16] [--seconds 60] [--output FILE.json]

One step under `torch.profiler` after three others. `busy` is the share of the step's wall time, taken without the
profiler, in which a kernel or a copy was running on the GPU (the union of their times, so what overlaps counts once);
the rest it waited for launches or for the host. The profiler slows launches, not kernels. On a CPU there is no such
share, and the operations' own times are those of the host.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]
from lora_sweep.engine.allocator import keep_freed_memory  # noqa: E402
from lora_sweep.engine.memory import as_out_of_memory  # noqa: E402  the path must be there before
from lora_sweep.errors import OutOfMemoryError  # noqa: E402
from lora_sweep.models import resolve_dtype  # noqa: E402
from packing.cells import Cell  # noqa: E402
from packing.data import synthetic_task  # noqa: E402
from packing.ours import make_engine, opened, packed_step, trial_config  # noqa: E402
from packing.results import Report, common_arguments, failure, say, settings_of, table  # noqa: E402
from packing.shapes import SHAPES, build_base  # noqa: E402
from packing.timing import free, synchronize  # noqa: E402

CELLS = {
    "cuda": (
        Cell("smollm2-135m", 2, 256),
        Cell("smollm2-135m", 2, 256, targets="all-linear", rank=16, dropout=0.05),
        Cell("llama-3.1-8b", 2, 256),
    ),
    "cpu": (Cell("minilm", 16, 32), Cell("minilm", 16, 32, targets="all-linear", rank=16, dropout=0.05)),
    "tiny": (Cell("tiny-bert", 4, 8),),
}


def main() -> None:
    """Profile cell by cell, print and write."""
    arguments = parse()
    deadline = time.monotonic() + arguments.seconds
    report = Report("profile", arguments.device, settings_of(arguments), arguments.output)
    for cell in CELLS[arguments.grid]:
        if arguments.models and cell.model not in arguments.models:
            continue
        result = asdict(cell) | {"pack": arguments.pack}
        if time.monotonic() > deadline:
            result["skipped"] = "no time left"
        else:
            try:
                with as_out_of_memory(str(cell)):
                    result |= profiled(cell, arguments)
            except OutOfMemoryError as error:
                result["failed"] = str(error)
            except Exception as error:  # the other cells are worth having
                result["failed"] = failure(error)
            free(torch.device(arguments.device))
        report.add(result)
        say(text(cell, result) + "\n")
    say(f"written to {report.file}")


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = common_arguments(__doc__, seconds=60)
    parser.add_argument("--grid", choices=list(CELLS))
    parser.add_argument("--pack", type=int, default=16)
    parser.add_argument("--top", type=int, default=12, help="operations to list")
    arguments = parser.parse_args(words)
    arguments.grid = arguments.grid or arguments.device
    if arguments.device == "cpu":
        torch.set_num_threads(arguments.threads)
        keep_freed_memory()  # for both sides
    return arguments


def profiled(cell: Cell, arguments: argparse.Namespace) -> dict[str, Any]:
    """One step of one cell."""
    base = build_base(cell.model, arguments.device, resolve_dtype(arguments.dtype, arguments.device))
    task = synthetic_task(base.task, SHAPES[cell.model].sizes["vocab_size"], cell.length, cell.mixed)
    engine = make_engine(base, task, arguments.threads)
    configs = [trial_config(cell.rank, cell.targets, cell.dropout, cell.batch, seed) for seed in range(arguments.pack)]
    with opened(engine, configs) as slots:
        step = packed_step(engine, slots)
        for _ in range(2):
            step()
        wall = min(_seconds(step, base.device) for _ in range(3))
        activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if arguments.device == "cuda" else [])
        with profile(activities=activities) as recorded:
            step()
            synchronize(base.device)
    on_device = arguments.device == "cuda"
    result: dict[str, Any] = {"step_seconds": float(f"{wall:.4g}")}
    events = [
        event
        for event in recorded.events()
        if (event.device_type.name == "CUDA") == on_device and not event.is_user_annotation
    ]
    if on_device:
        busy = union((event.time_range.start, event.time_range.end) for event in events) / 1e6
        result |= {"busy_seconds": float(f"{busy:.4g}"), "busy": float(f"{busy / wall:.3g}"), "kernels": len(events)}
    return result | {"top": _top(events, on_device, arguments.top)}


def union(spans: Iterable[tuple[float, float]]) -> float:
    """Length of what spans cover together."""
    covered, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        covered += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return covered


def text(cell: Cell, result: dict[str, Any]) -> str:
    """A result to read."""
    head = f"{cell}, pack of {result['pack']}: "
    if "top" not in result:
        return head + str(result.get("skipped") or result["failed"])
    head += f"{1000 * result['step_seconds']:.1f} ms a step"
    if "busy" in result:
        head += f", GPU busy {result['busy']:.0%} of it, {result['kernels']:,} kernels and copies"
    rows = [[one["name"], f"{one['calls']:,}", f"{one['ms']:.2f}", f"{one['share']:.1%}"] for one in result["top"]]
    return head + "\n" + table(("operation", "calls", "ms", "share"), rows)


def _top(events: Any, on_device: bool, count: int) -> list[dict[str, Any]]:
    """The names with the largest sums of their own time."""
    seconds: dict[str, float] = defaultdict(float)
    calls: dict[str, int] = defaultdict(int)
    for event in events:
        own = event.time_range.elapsed_us() if on_device else event.self_cpu_time_total
        seconds[event.name] += own
        calls[event.name] += 1
    total = sum(seconds.values()) or 1.0
    names = sorted(seconds, key=lambda name: -seconds[name])[:count]
    return [
        {
            "name": name[:70],
            "calls": calls[name],
            "ms": round(seconds[name] / 1000, 3),
            "share": round(seconds[name] / total, 4),
        }
        for name in names
    ]


def _seconds(step: Callable[[], int], device: torch.device) -> float:
    synchronize(device)
    start = time.perf_counter()
    step()
    synchronize(device)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
