"""How fast this machine multiplies by a frozen weight: by torch itself, and as the engine does it.

    python benchmarks/packing/products.py [--threads 2] [--rounds 20] [--output FILE.json]

x [tokens, in] times W [out, in] and its gradient by x, in the shapes of MiniLM's layers, in fp32 and bf16. GFLOP/s,
min/median/max over rounds in turns. The two sides differ in fp32 on a CPU with AVX-512 that is not Intel's
(`lora_sweep/adapters/frozen_linear.py`).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from time import perf_counter

import torch
from torch.nn.functional import linear

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]
from lora_sweep.adapters.frozen_linear import product  # noqa: E402  the path must be there before
from packing.results import Report, common_arguments, say, settings_of, shown, spread, table  # noqa: E402

SHAPES = ((2048, 384, 384), (2048, 384, 1536), (2048, 1536, 384))
"""Tokens, in, out."""
CALLS = 10


def main() -> None:
    """Measure, print, write."""
    parser = common_arguments(__doc__, seconds=60)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads or os.cpu_count() or 1)
    report = Report("products", "cpu", settings_of(arguments), arguments.output)
    rows = []
    for dtype in (torch.float32, torch.bfloat16):
        for tokens, size_in, size_out in SHAPES:
            rates = measured(dtype, tokens, size_in, size_out, arguments.rounds)
            cell = {"dtype": str(dtype).removeprefix("torch."), "tokens": tokens, "in": size_in, "out": size_out}
            ratios = spread([ours / theirs for ours, theirs in zip(rates["ours"], rates["torch"], strict=True)])
            report.add(cell | {name: spread(found) for name, found in rates.items()} | {"ours_over_torch": ratios})
            gflops = [shown(spread(rates[name])) for name in ("torch", "ours")]
            rows.append([*map(str, cell.values()), *gflops, shown(ratios)])
    say(table(("dtype", "tokens", "in", "out", "torch GFLOP/s", "ours GFLOP/s", "ours/torch"), rows))
    say(f"written to {report.file}")


def measured(dtype: torch.dtype, tokens: int, size_in: int, size_out: int, rounds: int) -> dict[str, list[float]]:
    """GFLOP/s of each side in each round, forward and backward together."""
    x, grad = torch.randn(tokens, size_in, dtype=dtype), torch.randn(tokens, size_out, dtype=dtype)
    weight, bias = torch.randn(size_out, size_in, dtype=dtype), torch.randn(size_out, dtype=dtype)
    sides = {
        "torch": lambda: (linear(x, weight, bias), grad @ weight),
        "ours": lambda: (product(x, weight, bias), product(grad, weight.T)),
    }
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):  # the first is a warm-up
        for name, side in sides.items():
            start = perf_counter()
            for _ in range(CALLS):
                side()
            seconds = perf_counter() - start
            if number:
                rates[name].append(CALLS * 4e-9 * tokens * size_in * size_out / seconds)
    return rates


if __name__ == "__main__":
    main()
