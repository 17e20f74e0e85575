"""Statistics against known truth: do the intervals cover, and does the tie set hold the true best?

    python benchmarks/statistics_coverage.py [--repetitions 1000] [--only accuracy] [--output FILE.json]

Prints one line a case and writes all of them as JSON. `simulated_trials` has the generator, docs/statistics.md the
table.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
from simulated_trials import RHO, SIGNS, Truth, abilities  # noqa: E402  the path must be there before

from reports.statistics import (  # noqa: E402
    estimates,
    intervals,
    optimism,
    paired_comparison,
    replicates,
    resample_counts,
    simultaneous_level,
    tie_set,
)
from reports.statistics.ties import TieSet  # noqa: E402

RESAMPLES, POOL, FINALISTS = 1000, 8, 3
SIZES, TRIALS = (200, 500, 2000), (16, 64)
COLUMNS = {
    "interval": "single 95 % intervals that cover",
    "pair": "95 % intervals of a paired difference that cover",
    "joint": "simultaneous test intervals that cover all 3 finalists",
    "finalist": "the simultaneous interval of the best of them on test covers",
    "naive_test": "its single 95 % interval covers",
    "naive_eval": "single 95 % interval of the winner on the data that chose it: covers",
    "holds": "the tie set holds a true best",
    "size": "mean size of the tie set",
    "naive": "the leaderboard's first is a true best",
    "bound": "the true loss of the cheapest tie is within its stated bound",
    "flatters": "how much the winner's figure flatters, true",
    "estimated": "the same as estimated",
}


def main() -> None:
    """Run every case and write the table."""
    arguments = _arguments()
    rows = []
    for case in cases(arguments.only):
        started = time.perf_counter()
        rows.append(case | run_case(**case, repetitions=arguments.repetitions))
        rows[-1]["seconds"] = round(time.perf_counter() - started, 1)
        print(_line(rows[-1]), flush=True)
        _write(arguments.output, rows, arguments.repetitions)


def cases(only: str | None) -> list[dict[str, Any]]:
    """Metric, variant, gap, trials and examples of every case."""
    accuracy = itertools.product(
        ("accuracy",), RHO, ("equal", "high", "few", "leader", "close", "spread"), TRIALS, SIZES
    )
    others = itertools.product(("loss", "macro_f1", "perplexity"), RHO, ("equal", "close"), (16,), SIZES)
    hard = itertools.product(("overconfident", "uneven"), RHO, ("equal", "few"), (16,), SIZES)
    names = ("metric", "variant", "gap", "trials", "examples")
    found = [dict(zip(names, values, strict=True)) for values in (*accuracy, *others, *hard)]
    return [case for case in found if only in (None, case["metric"])]


def run_case(metric: str, variant: str, gap: str, trials: int, examples: int, repetitions: int) -> dict[str, float]:
    """The mean of every figure over the repetitions."""
    truth = Truth(metric, abilities(gap, trials), RHO[variant])
    seed = [ord(letter) for letter in f"{metric}/{variant}/{gap}"] + [trials, examples]
    random = np.random.default_rng(seed)
    # resamples do not depend on the data: a pool of them serves all repetitions
    pool = [list(resample_counts(examples, RESAMPLES, seed=number)) for number in range(POOL)]
    found = []
    for repetition in range(repetitions):
        picked = (pool[repetition % POOL], pool[(repetition + 1) % POOL])
        found.append(repeat(truth, examples, random, picked))
    return {name: float(np.mean([one[name] for one in found])) for name in COLUMNS}


def repeat(truth: Truth, examples: int, random: np.random.Generator, pools: Any) -> dict[str, float]:
    """One sweep: evaluation data that choose, test data for the finalists."""
    sample, sign = truth.draw(examples, random), SIGNS[truth.metric]
    values, drawn = estimates(sample), replicates(sample, pools[0])
    names = tuple(map(str, range(len(values))))
    ties = tie_set(names, sample, drawn, sign)
    covered = _covered(intervals(sample, drawn), truth.values)
    first, second = random.choice(len(values), 2, replace=False)
    pair = paired_comparison(sample.take([first, second]), sign)
    difference = sign * (truth.values[first] - truth.values[second])
    return {
        "interval": covered.mean(),
        "pair": pair.bounds is not None and pair.bounds[0] <= difference <= pair.bounds[1],
        "naive_eval": covered[ties.best],
        "flatters": sign * (values[ties.best] - truth.values[ties.best]),
        "estimated": optimism(values, drawn, sign),
        **_ties(ties, sign * truth.values, random),
        **_finalists(truth, np.argsort(-sign * values, kind="stable")[:FINALISTS], examples, random, pools[1]),
    }


def _ties(ties: TieSet, quality: np.ndarray, random: np.random.Generator) -> dict[str, float]:
    """`quality` is the truth, larger is better. The cost of the trials has nothing to do with it."""
    best = quality >= quality.max() - 1e-12
    pick = random.permutation(np.flatnonzero(ties.members))[0]
    return {
        "holds": ties.members[best].mean(),
        "size": ties.members.sum(),
        "naive": best[ties.best],
        "bound": quality.max() - quality[pick] <= ties.behind_at_most[pick] + 1e-12,
    }


def _finalists(
    truth: Truth, chosen: np.ndarray, examples: int, random: np.random.Generator, counts: Any
) -> dict[str, float]:
    """The finalists on fresh test data, of which the best on test is reported."""
    test = Truth(truth.metric, truth.p[chosen], truth.rho).draw(examples, random)
    values, drawn, real = estimates(test), replicates(test, counts), truth.values[chosen]
    best = int((SIGNS[truth.metric] * values).argmax())
    level = simultaneous_level(test, drawn)
    covered = _covered(intervals(test, drawn, level), real)
    return {
        "joint": covered.all(),
        "finalist": covered[best],
        "naive_test": _covered(intervals(test, drawn), real)[best],
    }


def _covered(bounds: np.ndarray, real: np.ndarray) -> np.ndarray:
    return (bounds[:, 0] <= real) & (real <= bounds[:, 1])


def _line(row: dict[str, Any]) -> str:
    head = f"{row['metric']:10} {row['variant']:11} {row['gap']:6} K={row['trials']:<3} n={row['examples']:<5}"
    return head + " ".join(f"{name} {row[name]:.3f}" for name in COLUMNS) + f" {row['seconds']:.0f} s"


def _write(output: Path, rows: list[dict[str, Any]], repetitions: int) -> None:
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent)
    about = {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit.stdout.strip(),
        "device": f"{platform.machine()}, {os.cpu_count()} cores",
        "repetitions": repetitions,
        "resamples": RESAMPLES,
        "columns": COLUMNS,
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(about | {"rows": rows}, indent=1) + "\n", encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Statistics against known truth.")
    parser.add_argument("--repetitions", type=int, default=1000)
    parser.add_argument("--only", choices=sorted(SIGNS), help="this metric alone")
    default = Path(__file__).parent / "results" / "statistics_coverage.json"
    parser.add_argument("--output", type=Path, default=default)
    return parser.parse_args()


if __name__ == "__main__":
    main()
