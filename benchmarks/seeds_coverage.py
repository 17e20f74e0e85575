"""Statistics over seeds against known truth: do the intervals of configurations cover, and who is ruled out?

    python benchmarks/seeds_coverage.py [--repetitions 1000] [--output FILE.json]

A configuration c has the accuracy p_c on average over seeds; seed s has ability p_c + N(0, spread), and answers
examples as in `simulated_trials`. Prints one line a case and writes all of them as JSON; with --tables it prints the
table of docs/statistics.md from that file.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
from coverage_cases import averages, parser_of, run_cases  # noqa: E402  the path must be there before
from simulated_trials import RHO, Truth  # noqa: E402

from reports.statistics import compare_configurations, estimates  # noqa: E402
from reports.statistics.samples import MeanSample  # noqa: E402

SPREADS, SIZES = (0.0, 0.5, 1.0, 2.0), (200, 500, 2000)
GAPS = {
    "equal": (0.80, 0.80, 0.80),
    "apart": (0.80, 0.78, 0.75),
    "many": (0.80,) * 12,
}
COLLAPSE, SHARE, LOSS = "collapse", 0.2, 0.10
"""Spread 0.5, and one seed in five loses 10 points."""
COLUMNS = {
    "interval": "95 % intervals of a configuration's mean that cover",
    "seeds_only": "the same from the spread between seeds alone",
    "examples_only": "the same from the examples of the first seed alone",
    "gains": "all intervals of the distance to the best mean cover",
    "wrong": "a true best is ruled out",
    "left": "configurations that are not ruled out, of all",
    "naive": "the best mean is that of a true best",
}


def main() -> None:
    """Run every case, or print the tables."""
    parser = parser_of("Statistics over seeds against known truth.", "seeds_coverage")
    parser.add_argument("--tables", action="store_true", help="print the tables of what was measured")
    arguments = parser.parse_args()
    if arguments.tables:
        rows = json.loads(arguments.output.read_text(encoding="utf-8"))["rows"]
        print("\n".join(table(rows)))
        return
    run_cases(cases(), run_case, _head, arguments, {"columns": COLUMNS})


def cases() -> Iterator[dict[str, Any]]:
    """Answers, gap, spread between seeds in points, seeds and examples of every case."""
    for variant in RHO:
        for gap in ("equal", "apart"):
            for spread in SPREADS:
                for examples in SIZES:
                    yield _case(variant, gap, spread, 3, examples)
    for seeds in (2, 5):
        for spread in (0.5, 2.0):
            yield _case("correlated", "equal", spread, seeds, 500)
    # one configuration whose seeds differ more, seeds that now and then collapse, and many configurations
    yield _case("correlated", "equal", (3.0, 0.2, 0.2), 3, 500)
    for seeds in (3, 10):
        for examples in SIZES:
            yield _case("correlated", "equal", COLLAPSE, seeds, examples)
    yield _case("correlated", "many", 1.0, 3, 500)


def _case(variant: str, gap: str, spread: float | Sequence[float] | str, seeds: int, examples: int) -> dict[str, Any]:
    return {"variant": variant, "gap": gap, "spread": spread, "seeds": seeds, "examples": examples}


def run_case(
    variant: str, gap: str, spread: float | Sequence[float] | str, seeds: int, examples: int, repetitions: int
) -> dict[str, float]:
    """The mean of every figure over the repetitions."""
    collapses = spread == COLLAPSE
    means = np.array(GAPS[gap]) - (SHARE * LOSS if collapses else 0)
    spreads = np.broadcast_to(0.005 if collapses else np.asarray(spread) / 100, means.shape)
    random = np.random.default_rng([len(variant), len(gap), seeds, examples, *(1000 * spreads).astype(int)])
    found = []
    for _ in range(repetitions):
        effects = spreads[:, None] * random.standard_normal((len(means), seeds))
        if collapses:
            effects += LOSS * (SHARE - (random.random(effects.shape) < SHARE))
        found.append(repeat(means, effects, RHO[variant], examples, random))
    return averages(found, COLUMNS)


def repeat(
    means: np.ndarray, effects: np.ndarray, rho: float, examples: int, random: np.random.Generator
) -> dict[str, float]:
    """One run: every configuration with its seeds on the same examples; `effects` has what each seed adds."""
    abilities = means[:, None] + effects
    sample = Truth("accuracy", abilities.clip(0.01, 0.99).ravel(), rho).draw(examples, random)
    assert isinstance(sample, MeanSample)
    values = estimates(sample).reshape(effects.shape)
    # of means, what the bootstrap's replicates estimate is known in closed form
    covariance = np.cov(sample.values) / examples
    found = compare_configurations(values.tolist(), covariance, 1)
    blind = compare_configurations(values.tolist(), np.zeros_like(covariance), 1)
    best = int(values.mean(axis=1).argmax())
    out = np.array([one.ruled_out for one in found])
    first = values[:, 0]
    half = 1.96 * np.sqrt(first * (1 - first) / examples)
    return {
        "interval": _cover([one.over_seeds.bounds for one in found if one.over_seeds], means),
        "seeds_only": _cover([one.over_seeds.bounds for one in blind if one.over_seeds], means),
        "examples_only": _cover(list(zip(first - half, first + half, strict=True)), means),
        "gains": all(_holds(one.bounds, means[c] - means[best]) for c, one in enumerate(found) if c != best),
        "wrong": out[means == means.max()].mean(),
        "left": (~out).sum(),
        "naive": means[best] == means.max(),
    }


def _cover(bounds: Sequence[tuple[float, float]], real: np.ndarray) -> float:
    return float(np.mean([_holds(one, value) for one, value in zip(bounds, real, strict=True)]))


def _holds(bounds: tuple[float, float] | None, real: float) -> bool:
    return bounds is None or bounds[0] <= real <= bounds[1]


def table(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Coverage and errors in percent, by answers, gap and spread: mean over the numbers of examples, with the range."""
    names = ("interval", "seeds_only", "examples_only", "gains", "wrong")
    yield "| answers | gap | seeds | spread | interval | seeds alone | one seed alone | gains | wrong | left |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["variant"], row["gap"], row["seeds"], str(row["spread"])), []).append(row)
    for key, group in groups.items():
        cells = [_spread([row[name] for row in group]) for name in names]
        left = f"{np.mean([row['left'] for row in group]):.2f} of {len(GAPS[key[1]])}"
        yield "| " + " | ".join([*map(str, key), *cells, left]) + " |"


def _spread(values: Sequence[float]) -> str:
    low, high = 100 * min(values), 100 * max(values)
    mean = f"{100 * sum(values) / len(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ({low:.1f} to {high:.1f})"


def _head(case: Mapping[str, Any]) -> str:
    variant, gap, spread = case["variant"], case["gap"], str(case["spread"])
    return f"{variant:11} {gap:5} spread {spread:15} S={case['seeds']} n={case['examples']:<5}"


if __name__ == "__main__":
    main()
