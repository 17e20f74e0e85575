"""A packed training step over its floor: what the frozen base alone must do, and the LoRA products themselves.

    python benchmarks/packing/floor.py [--models minilm] [--packs 4 16] [--seconds 120] [--output FILE.json]

The floor of a step is

    floor = T_base * (1 + F_lora / F_base)

T_base: seconds of the frozen base alone, without adapters, on the same token ids in the same passes (same rows, same
    padded lengths, one after the other) as the packed step: its forward, the task's loss as the engine computes it,
    and the backward for gradients of activations. Gradients begin at the outputs of the lowest adapted layers, those
    whose inputs depend on no other adapted layer: a LoRA layer needs the gradient of its output, and below the lowest
    ones nothing needs any. No weight has a gradient, nothing is clipped or updated. Measured, in turns with the packed
    step, on plain modules over the same weights, in the same dtype, with the same attention
    and by the same library (`adapters/frozen_linear.py`).
F_base: floating-point operations of that, as `torch.utils.flop_counter` counts them (products and attention). So
    F_base / T_base is the rate at which this base runs on this device at this size.
F_lora: operations of the LoRA products on the same padded tokens: 6 r (in + out) for each token and adapted layer,
    less 2 r in at the lowest adapted layers (`bare.lora_flops`). They are charged at the base's rate, so the floor lets
    narrow products run as fast as wide ones, and gives dropout, clipping, AdamW and the bookkeeping no time at all.

Packed over floor is 1 where packing costs nothing beyond the arithmetic. The base runs eagerly, kernel by kernel, as
the engine's does; where a device waits for launches, the floor waits too. On a CPU the engine computes of a
classifier's last block the one token of a row that its head reads, and the floor all of them: there it may be below 1.
"""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]
from lora_sweep.adapters.frozen_linear import freeze_linear  # noqa: E402
from lora_sweep.engine.allocator import keep_freed_memory  # noqa: E402
from lora_sweep.engine.engine import Engine  # noqa: E402
from lora_sweep.engine.slot import Slot  # noqa: E402
from lora_sweep.errors import OutOfMemoryError  # noqa: E402
from lora_sweep.models import FrozenBase, resolve_dtype  # noqa: E402
from packing.bare import BareBase, lora_flops, padded_tokens  # noqa: E402  the path must be there before
from packing.data import synthetic_task  # noqa: E402
from packing.ours import make_engine, opened, packed_step, step_batches, trial_config  # noqa: E402
from packing.results import Report, common_arguments, failure, note, say, settings_of, shown, spread, table  # noqa: E402
from packing.shapes import SHAPES, build_base, same_weights  # noqa: E402
from packing.timing import Timed, free, interleave  # noqa: E402

HEADER = ("model", "rows", "targets", "rank", "dropout", "pack", "packed ms", "base ms", "LoRA share", "packed/floor")
ADAPTERS = (("attention-qv", 8), ("all-linear", 16), ("all-linear", 64))
ROWS = {"minilm": (16, 32), "tiny-bert": (4, 8), "tiny-llama": (2, 8)}
"""Batch and length of each trial; (2, 256) for other shapes."""


@dataclass(frozen=True)
class FloorCell:
    """What is measured: equal adapters in packs of several sizes."""

    model: str
    batch: int
    length: int
    targets: str
    rank: int
    dropout: float


def main() -> None:
    """Measure cell by cell, print and write."""
    arguments = parse()
    deadline = time.monotonic() + arguments.seconds
    report = Report("floor", arguments.device, settings_of(arguments), arguments.output)
    rows: list[list[str]] = []
    for model in arguments.models:
        if time.monotonic() > deadline:
            report.add({"model": model, "skipped": "no time left"})
            note(f"skipped {model}: no time left")
            continue
        for results in measure_model(model, arguments, deadline):
            for result in results:
                report.add(result)
                rows.append(row(result))
                note("  ".join(rows[-1]))
    say("\n" + report.content["device"] + ", ratios as min/median/max\n" + table(HEADER, rows))
    say(f"written to {report.file}")


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = common_arguments(__doc__, seconds=120)
    parser.add_argument("--packs", type=int, nargs="+", default=[4, 16])
    parser.add_argument("--dropouts", type=float, nargs="+", default=[0.0, 0.05])
    parser.add_argument("--adapters", nargs="+", metavar="TARGETS:RANK", default=[f"{t}:{r}" for t, r in ADAPTERS])
    parser.add_argument("--batch", type=int, help="rows of each trial")
    parser.add_argument("--length", type=int, help="tokens of each row")
    arguments = parser.parse_args(words)
    cuda = arguments.device == "cuda"
    arguments.models = arguments.models or (["smollm2-135m", "qwen2.5-0.5b", "llama-3.1-8b"] if cuda else ["minilm"])
    if not cuda:
        torch.set_num_threads(arguments.threads)
        keep_freed_memory()  # for both sides
    return arguments


def measure_model(model: str, arguments: argparse.Namespace, deadline: float) -> Any:
    """Results of every kind of adapter on one base, one list for each."""
    base = build_base(model, arguments.device, resolve_dtype(arguments.dtype, arguments.device))
    plain = same_weights(base)
    freeze_linear(plain.model.modules())
    batch, length = ROWS.get(model, (2, 256))
    batch, length = arguments.batch or batch, arguments.length or length
    task = synthetic_task(base.task, SHAPES[model].sizes["vocab_size"], length)
    engine = make_engine(base, task, arguments.threads)
    for adapter in arguments.adapters:
        targets, rank = adapter.rsplit(":", 1)
        for dropout in arguments.dropouts:
            cell = FloorCell(model, batch, length, targets, int(rank), dropout)
            if time.monotonic() > deadline:
                yield [asdict(cell) | {"skipped": "no time left"}]
            else:
                yield measure(engine, plain, cell, arguments, deadline)
            free(base.device)


def measure(
    engine: Engine, plain: FrozenBase, cell: FloorCell, arguments: argparse.Namespace, deadline: float
) -> list[dict[str, Any]]:
    """A packed step and the bare base in turns, for one size of pack after the other."""
    results = []
    for pack in arguments.packs:
        configs = [trial_config(cell.rank, cell.targets, cell.dropout, cell.batch, seed) for seed in range(pack)]
        try:
            with opened(engine, configs) as slots:
                figures = _in_turns(engine, slots, plain, cell, arguments, deadline)
        except OutOfMemoryError as error:
            figures = {"failed": str(error)}
        except Exception as error:  # the other cells are worth having
            figures = {"failed": failure(error)}
        results.append(asdict(cell) | {"pack": pack} | figures)
        free(plain.device)
    return results


def _in_turns(
    engine: Engine,
    slots: list[Slot],
    plain: FrozenBase,
    cell: FloorCell,
    arguments: argparse.Namespace,
    deadline: float,
) -> dict[str, Any]:
    adapted = engine.adapted.targets(slots[0].config)
    batches = step_batches(engine, slots)
    tokens = padded_tokens(batches)
    result: dict[str, Any] = {"passes": len(batches), "padded_tokens": tokens}
    with closing(BareBase(plain, adapted, batches)) as bare:
        contenders = {"packed": packed_step(engine, slots, same_rows=True), "base": bare.step(batches)}
        timed = interleave(contenders, plain.device, arguments.turn, arguments.rounds, deadline)
        if timed.failed:
            return result | {"failed": next(iter(timed.failed.values()))}
        lora = lora_flops(plain, adapted, bare.lowest, cell.rank, tokens)
        return result | _figures(timed, bare.flops(batches), lora)


def _figures(timed: Timed, base_flops: int, lora: int) -> dict[str, Any]:
    share = lora / base_flops
    ratios = [one / (1 + share) for one in timed.ratios("packed", "base", lambda turn: turn.seconds_per_call)]
    packed, base = (spread([turn.seconds_per_call for turn in timed.turns[name]]) for name in ("packed", "base"))
    return {
        "packed_seconds": packed,
        "base_seconds": base,
        "base_flops": base_flops,
        "lora_flops": lora,
        "base_flops_per_second": float(f"{base_flops / base['median']:.4g}"),
        "floor_seconds": float(f"{base['median'] * (1 + share):.4g}"),
        "packed_over_floor": spread(ratios),
        "rounds": len(ratios),
    }


def row(result: dict[str, Any]) -> list[str]:
    """A result as a line of the table."""
    if "targets" not in result:
        return [result["model"], *[""] * 8, result["skipped"]]
    head = [result["model"], f"{result['batch']}x{result['length']}", result["targets"], str(result["rank"])]
    head += [f"{result['dropout']:g}", str(result.get("pack", ""))]
    if "packed_over_floor" not in result:
        return [*head, "", "", "", result.get("failed", result.get("skipped", ""))]
    share = result["lora_flops"] / result["base_flops"]
    seconds = [f"{1000 * result[name]['median']:.1f}" for name in ("packed_seconds", "base_seconds")]
    return [*head, *seconds, f"{share:.1%}", shown(result["packed_over_floor"])]


if __name__ == "__main__":
    main()
