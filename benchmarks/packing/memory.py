"""Peak memory of a packed step for each size of pack, beside PEFT with one adapter at a time and with many processes.

    python benchmarks/packing/memory.py [--grid small|full|cpu] [--packs 1 4 16 32] [--seconds 120]

Figures are of a few whole training steps, base included. On a GPU: `torch.cuda.max_memory_allocated`, one after the
other in this process. On a CPU: the largest resident set of a fresh process, libraries included (about half a
gigabyte of torch and transformers).

`N processes` is N times the peak of one PEFT process: what training N adapters at once takes without packing. The
driver's context, some hundreds of megabytes a process on a GPU, comes on top and is not in it.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]
from lora_sweep.adapters import resolve_targets  # noqa: E402  the path must be there before
from lora_sweep.engine.allocator import keep_freed_memory  # noqa: E402
from lora_sweep.engine.memory import as_out_of_memory  # noqa: E402
from lora_sweep.errors import OutOfMemoryError  # noqa: E402
from lora_sweep.models import resolve_dtype  # noqa: E402
from packing import footprint  # noqa: E402
from packing.cells import GRIDS, Cell, chosen  # noqa: E402
from packing.data import synthetic_task  # noqa: E402
from packing.ours import make_engine, opened, packed_step, trial_config  # noqa: E402
from packing.results import Report, common_arguments, failure, note, say, settings_of, table  # noqa: E402
from packing.shapes import SHAPES, build_base  # noqa: E402
from packing.theirs import peft_step, variants  # noqa: E402
from packing.timing import free  # noqa: E402

STEPS = 5
"""A GPU's recorded pass is replayed in the last one."""
HEADER = ("cell", "pack", "engine", "PEFT, one", "PEFT, processes", "engine / processes")


def main() -> None:
    """Measure cell by cell, print and write."""
    arguments = parse()
    deadline = time.monotonic() + arguments.seconds
    report = Report("memory", arguments.device, settings_of(arguments), arguments.output)
    rows: list[list[str]] = []
    for cell in chosen(arguments.grid, arguments.models):
        if time.monotonic() > deadline:
            result: dict[str, Any] = asdict(cell) | {"skipped": "no time left"}
        else:
            result = asdict(cell) | measure(cell, arguments, deadline)
        report.add(result)
        rows += lines(cell, result)
        note("\n".join("  ".join(line) for line in lines(cell, result)))
    say(f"\n{report.content['device']}, peak memory\n{table(HEADER, rows)}")
    say(f"written to {report.file}")


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = common_arguments(__doc__, seconds=120)
    parser.add_argument("--grid", choices=list(GRIDS))
    parser.add_argument("--packs", type=int, nargs="+", default=[1, 4, 16, 32])
    arguments = parser.parse_args(words)
    arguments.grid = arguments.grid or ("small" if arguments.device == "cuda" else "cpu")
    return arguments


def measure(cell: Cell, arguments: argparse.Namespace, deadline: float) -> dict[str, Any]:
    """Bytes of PEFT, each variant, and of every pack that there is time for."""
    dtype = resolve_dtype(arguments.dtype, arguments.device)

    def peak(who: str | int) -> int | str:
        work = _in_fresh_process if arguments.device == "cpu" else _caught
        return work(cell, who, arguments.device, dtype, arguments.threads)

    result: dict[str, Any] = {"peft_bytes": {variant: peak(variant) for variant in variants(dtype)}, "pack_bytes": {}}
    for pack in arguments.packs:
        result["pack_bytes"][pack] = peak(pack) if time.monotonic() < deadline else "skipped: no time left"
    return result


def peak_of(cell: Cell, who: str | int, device: str, dtype: torch.dtype, threads: int) -> int:
    """Bytes at the peak of some steps of a variant of PEFT or of a pack of that many adapters."""
    if device == "cpu":
        torch.set_num_threads(threads)
        keep_freed_memory()  # for both sides
    footprint.begin(torch.device(device))
    base = build_base(cell.model, device, dtype)
    footprint.begin(base.device)  # what building took does not count
    task = synthetic_task(base.task, SHAPES[cell.model].sizes["vocab_size"], cell.length, cell.mixed)
    configs = [trial_config(cell.rank, cell.targets, cell.dropout, cell.batch, s) for s in range(_adapters(who))]
    if isinstance(who, str):
        targets = resolve_targets(base.model, cell.targets, base.trained, base.called)
        step = peft_step(base, task, configs[0], targets, who)
        return _peak_after(step, base.device)
    engine = make_engine(base, task, threads)
    with opened(engine, configs) as slots:
        return _peak_after(packed_step(engine, slots), base.device)


def lines(cell: Cell, result: dict[str, Any]) -> list[list[str]]:
    """A result as lines of the table, one for each pack."""
    if "skipped" in result:
        return [[str(cell), "", result["skipped"], "", "", ""]]
    sizes = [size for size in result["peft_bytes"].values() if isinstance(size, int)]
    one = min(sizes, default=None)
    rows = []
    for pack, size in result["pack_bytes"].items():
        together = None if one is None else pack * one
        share = f"{size / together:.2f}" if together and isinstance(size, int) else ""
        rows.append([str(cell), str(pack), _size(size), _size(one), _size(together), share])
    return rows


def _adapters(who: str | int) -> int:
    return 1 if isinstance(who, str) else who


def _peak_after(step: Callable[[], int], device: torch.device) -> int:
    for _ in range(STEPS):
        step()
    return footprint.peak(device)


def _caught(*arguments: Any) -> int | str:
    device = torch.device(arguments[2])
    free(device)
    try:
        with as_out_of_memory(str(arguments[0])):
            return peak_of(*arguments)
    except OutOfMemoryError as error:
        return str(error)
    except Exception as error:  # the other cells are worth having
        return failure(error)
    finally:
        free(device)


def _in_fresh_process(*arguments: Any) -> int | str:
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(_caught, arguments)


def _size(value: int | str | None) -> str:
    if isinstance(value, str):
        return "out of memory" if "out of memory" in value else value
    return "–" if value is None else f"{value / 1e9:.2f} GB"


if __name__ == "__main__":
    main()
