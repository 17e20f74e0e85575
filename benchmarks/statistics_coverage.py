"""Statistics against known truth: do the intervals cover, and does the tie set hold the true best?

    python benchmarks/statistics_coverage.py [--repetitions 1000] [--only accuracy] [--output FILE.json]

Prints one line a case and writes all of them as JSON. `simulated_trials` has the generator, docs/statistics.md the
table.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
from coverage_cases import averages, parser_of, run_cases  # noqa: E402  the path must be there before
from simulated_trials import RHO, SIGNS, Truth, abilities  # noqa: E402

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
    parser = parser_of("Statistics against known truth.", "statistics_coverage")
    parser.add_argument("--only", choices=sorted(SIGNS), help="this metric alone")
    arguments = parser.parse_args()
    facts = {"resamples": RESAMPLES, "columns": COLUMNS}
    run_cases(cases(arguments.only), run_case, _head, arguments, facts)


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
    return averages(found, COLUMNS)


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


def _head(case: Mapping[str, Any]) -> str:
    return f"{case['metric']:10} {case['variant']:11} {case['gap']:6} K={case['trials']:<3} n={case['examples']:<5}"


if __name__ == "__main__":
    main()
