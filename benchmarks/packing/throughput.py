"""Trained tokens per second: the packed engine against PEFT on the same device.

    python benchmarks/packing/throughput.py --grid small|full|cpu [--seconds 300] [--packs 1 2 4 8 16 32]

Every cell of the grid (base, batch, length, adapters) is measured in rounds. In a round each contender takes a turn:
the engine with packs of several sizes, PEFT with one adapter in each of its variants (`theirs.variants`), and, in the
first `--concurrent` cells, PEFT in several processes at once. Every other round runs backwards. Tokens are valid
training tokens of all adapters together; one step of PEFT is one step of one adapter.

- `x seq`: tokens per second of the pack over those of sequential PEFT, the faster variant by its median.
- `x conc`: over the sum of the concurrent processes: one for each core, and on a GPU as many as its memory holds
  beside the engine, up to `--processes`; one thread each on a CPU. CUDA's multi-process service is not used.

Both are min/median/max over the rounds; below 1 the engine is slower. Cells that do not fit into the time are listed
as skipped, what runs out of memory is listed as that.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]
from lora_sweep.engine.allocator import keep_freed_memory  # noqa: E402
from lora_sweep.engine.memory import as_out_of_memory  # noqa: E402  the path must be there before
from lora_sweep.errors import OutOfMemoryError  # noqa: E402
from lora_sweep.models import FrozenBase, resolve_dtype  # noqa: E402
from packing.cells import GRIDS, Cell, chosen  # noqa: E402
from packing.data import synthetic_task  # noqa: E402
from packing.ours import make_engine, opened, packed_step, trial_config  # noqa: E402
from packing.results import Report, common_arguments, failure, note, say, settings_of, shown, spread, table  # noqa: E402
from packing.shapes import SHAPES, build_base, same_weights  # noqa: E402
from packing.theirs import peft_step, variants  # noqa: E402
from packing.timing import Contender, Timed, Turn, free, interleave  # noqa: E402
from packing.workers import PeftPool, WorkerFailed, most_processes  # noqa: E402

CONCURRENT = "peft, processes"
HEADER = ("cell", "pack", "tokens/s", "x seq", "x conc")


def main() -> None:
    """Measure cell by cell, print and write."""
    arguments = parse()
    deadline = time.monotonic() + arguments.seconds
    report = Report("throughput", arguments.device, settings_of(arguments), arguments.output)
    rows: list[list[str]] = []
    for result in measured(chosen(arguments.grid, arguments.models), arguments, deadline):
        report.add(result)
        rows += lines(result)
        note("\n".join("  ".join(line) for line in lines(result)))
    say(f"\n{report.content['device']}, ratios as min/median/max; below 1 the engine is slower\n{table(HEADER, rows)}")
    say(f"written to {report.file}")


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = common_arguments(__doc__, seconds=300)
    parser.add_argument("--grid", choices=list(GRIDS))
    parser.add_argument("--packs", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--concurrent", type=int, default=2, help="cells with concurrent processes; 0 for none")
    parser.add_argument("--processes", type=int, default=16, help="at most so many of them")
    arguments = parser.parse_args(words)
    arguments.grid = arguments.grid or ("small" if arguments.device == "cuda" else "cpu")
    if arguments.device == "cpu":
        torch.set_num_threads(arguments.threads)
        keep_freed_memory()  # for both sides
    return arguments


def measured(cells: tuple[Cell, ...], arguments: argparse.Namespace, deadline: float) -> Iterator[dict[str, Any]]:
    """One result for each cell, in order; a base stays while the next cell wants it too."""
    base: FrozenBase | None = None
    slowest = 0.0
    for number, cell in enumerate(cells):
        start = time.monotonic()
        if start + slowest / 2 > deadline:
            yield asdict(cell) | {"skipped": "no time left"}
            continue
        if base is None or base.name != cell.model:
            base = None
            free(torch.device(arguments.device))
            base = build_base(cell.model, arguments.device, resolve_dtype(arguments.dtype, arguments.device))
        try:
            with as_out_of_memory(str(cell)):
                figures = measure(base, cell, arguments, number < arguments.concurrent, deadline)
        except OutOfMemoryError as error:
            figures = {"failed": str(error)}
        except Exception as error:  # the other cells are worth having
            figures = {"failed": failure(error)}
        free(base.device)
        slowest = max(slowest, time.monotonic() - start)
        yield asdict(cell) | figures | {"cell_seconds": round(time.monotonic() - start, 1)}


def measure(
    base: FrozenBase, cell: Cell, arguments: argparse.Namespace, concurrent: bool, deadline: float
) -> dict[str, Any]:
    """All contenders of one cell in turns."""
    task = synthetic_task(base.task, SHAPES[cell.model].sizes["vocab_size"], cell.length, cell.mixed)
    # a copy: the next cell needs plain modules again
    engine = make_engine(same_weights(base), task, arguments.threads)
    packs = sorted(arguments.packs)
    configs = [trial_config(cell.rank, cell.targets, cell.dropout, cell.batch, seed) for seed in range(max(packs))]
    targets = engine.adapted.targets(configs[0])
    contenders: dict[str, Contender] = {
        variant: peft_step(same_weights(base), task, configs[0], targets, variant) for variant in variants(base.dtype)
    }
    with opened(engine, configs) as slots:
        contenders |= {f"pack {pack}": packed_step(engine, slots[:pack]) for pack in packs}
        timed = interleave(contenders, base.device, arguments.turn, arguments.rounds, deadline)
        figures = summary(timed, base.dtype, packs) | {"tokens_per_pass": engine.tokens_per_pass}
        baseline = figures["baseline"]
        if concurrent and baseline and time.monotonic() < deadline:
            largest = max((pack for pack in packs if f"pack {pack}" in timed.turns), default=None)
            figures["concurrent"] = against_processes(cell, base, baseline, arguments, contenders, largest)
    return figures


def summary(timed: Timed, dtype: torch.dtype, packs: list[int]) -> dict[str, Any]:
    """Rates and ratios over the faster variant of PEFT."""
    rates = {name: spread([turn.tokens_per_second for turn in turns]) for name, turns in timed.turns.items()}
    tried = [variant for variant in variants(dtype) if variant in rates]
    baseline = max(tried, key=lambda variant: rates[variant]["median"], default=None)
    result: dict[str, Any] = {"baseline": baseline, "peft": {variant: rates[variant] for variant in tried}}
    result["packs"] = {}
    for pack in packs:
        name = f"pack {pack}"
        if name not in rates:
            result["packs"][pack] = {"failed": timed.failed[name]}
            continue
        over = None if baseline is None else spread(timed.ratios(name, baseline, _rate))
        result["packs"][pack] = {"tokens_per_second": rates[name], "over_sequential": over}
    result["failed_peft"] = {variant: timed.failed[variant] for variant in variants(dtype) if variant in timed.failed}
    return result


def against_processes(
    cell: Cell,
    base: FrozenBase,
    variant: str,
    arguments: argparse.Namespace,
    contenders: dict[str, Contender],
    largest: int | None,
) -> dict[str, Any]:
    """The largest pack and sequential PEFT in turns with PEFT in as many processes as fit."""
    free(base.device)
    processes = most_processes(cell, arguments.device, base.dtype, arguments.processes)
    while True:
        try:
            with PeftPool(processes, cell, arguments.device, base.dtype, variant) as pool:
                return _beside(pool, base, contenders, variant, arguments, largest)
        except WorkerFailed as error:
            if processes == 1:
                return {"failed": str(error)}
            processes //= 2


def _beside(
    pool: PeftPool,
    base: FrozenBase,
    contenders: dict[str, Contender],
    variant: str,
    arguments: argparse.Namespace,
    largest: int | None,
) -> dict[str, Any]:
    names = [variant] + ([] if largest is None else [f"pack {largest}"])
    rounds, seconds = max(3, arguments.rounds), max(1.0, arguments.turn)
    timed = Timed({name: [] for name in names})
    together: list[Turn] = []
    pool.turn(seconds / 2)
    for _ in range(rounds):
        one = interleave({name: contenders[name] for name in names}, base.device, arguments.turn, 1, time.monotonic())
        for name in names:
            if name in one.failed:
                return {"processes": pool.processes, "failed": f"{name}: {one.failed[name]}"}
            timed.turns[name] += one.turns[name]
        together.append(pool.turn(seconds))
    timed.turns[CONCURRENT] = together
    result: dict[str, Any] = {
        "processes": pool.processes,
        "variant": variant,
        "tokens_per_second": spread([turn.tokens_per_second for turn in together]),
        "over_sequential": spread(timed.ratios(CONCURRENT, variant, _rate)),
        "memory_bytes": pool.memory_bytes,
    }
    if largest is not None:
        result |= {"pack": largest, "pack_over_concurrent": spread(timed.ratios(names[1], CONCURRENT, _rate))}
    return result


def lines(result: dict[str, Any]) -> list[list[str]]:
    """A result as lines of the table: one for PEFT, one for each pack."""
    name = str(Cell(**{key: result[key] for key in Cell.__dataclass_fields__}))
    if "packs" not in result:
        return [[name, "", "", *_reason(result), ""]]
    concurrent = result.get("concurrent", {})
    lines = [[name, variant, f"{rate['median']:,.0f}", "", ""] for variant, rate in result["peft"].items()]
    lines += [[name, variant, "", "out of memory", ""] for variant in result["failed_peft"]]
    if "tokens_per_second" in concurrent:
        rate, over = concurrent["tokens_per_second"]["median"], shown(concurrent["over_sequential"])
        lines.append([name, f"{CONCURRENT} {concurrent['processes']}", f"{rate:,.0f}", over, ""])
    elif concurrent:
        lines.append([name, CONCURRENT, "", *_reason(concurrent), ""])
    for pack, figures in result["packs"].items():
        if "failed" in figures:
            lines.append([name, str(pack), "", *_reason(figures), ""])
            continue
        beside = shown(concurrent["pack_over_concurrent"]) if concurrent.get("pack") == pack else ""
        rate = figures["tokens_per_second"]["median"]
        lines.append([name, str(pack), f"{rate:,.0f}", shown(figures["over_sequential"]), beside])
    return lines


def _reason(result: dict[str, Any]) -> list[str]:
    text = result.get("skipped") or result["failed"]
    return ["out of memory" if "out of memory" in text.lower() else text.splitlines()[-1]]


def _rate(turn: Turn) -> float:
    return turn.tokens_per_second


if __name__ == "__main__":
    main()
