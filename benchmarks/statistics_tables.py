"""The tables of docs/statistics.md from what `statistics_coverage.py` measured.

python benchmarks/statistics_tables.py [benchmarks/results/statistics_coverage.json]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]
COVERAGE = ("interval", "pair", "joint", "naive_eval")


def main() -> None:
    """Print both tables as Markdown."""
    default = Path(__file__).parent / "results" / "statistics_coverage.json"
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else default
    rows = json.loads(file.read_text(encoding="utf-8"))["rows"]
    for lines in (coverage(rows), ties(rows)):
        print("\n".join(lines), end="\n\n")


def coverage(rows: Sequence[Row]) -> Iterator[str]:
    """Metric, variant and examples with the mean over gaps and numbers of trials, and the range of single cases."""
    yield "| metric | answers | examples | one adapter | paired difference | all 3 finalists | winner, naive |"
    yield "|---|---|---|---|---|---|---|"
    for key, group in _groups(rows, "metric", "variant", "examples"):
        cells = [_spread([row[name] for row in group]) for name in COVERAGE]
        yield "| " + " | ".join([*map(str, key), *cells]) + " |"


def ties(rows: Sequence[Row]) -> Iterator[str]:
    """For each case: how often the set holds the best, its mean size, and the leaderboard's hit rate."""
    sizes = sorted({row["examples"] for row in rows})
    yield "| metric | answers | gap | trials | " + " | ".join(f"{size} examples" for size in sizes) + " |"
    yield "|---|---|---|---|" + "---|" * len(sizes)
    for key, group in _groups(rows, "metric", "variant", "gap", "trials"):
        by_size = {row["examples"]: row for row in group}
        cells = [_tie_cell(by_size[size]) if size in by_size else "" for size in sizes]
        yield "| " + " | ".join([*map(str, key), *cells]) + " |"


def _tie_cell(row: Row) -> str:
    equal = row["gap"] in ("equal", "high", "few")
    return f"{_percent(row['holds'])}, {row['size']:.1f}, {'–' if equal else _percent(row['naive'])}"


def _spread(values: Sequence[float]) -> str:
    mean = sum(values) / len(values)
    return f"{_percent(mean)} ({100 * min(values):.1f} to {100 * max(values):.1f})"


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _groups(rows: Sequence[Row], *names: str) -> Iterator[tuple[tuple[Any, ...], list[Row]]]:
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row[name] for name in names), []).append(row)
    yield from found.items()


if __name__ == "__main__":
    main()
