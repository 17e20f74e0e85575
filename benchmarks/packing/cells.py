"""Which combinations are measured, the most informative first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product


@dataclass(frozen=True)
class Cell:
    """Equal trials on one base.

    Attributes:
        model: a key of `shapes.SHAPES`.
        batch: rows of each trial.
        length: tokens of each row; of the longest where lengths are mixed.
        mixed: whether lengths are mixed.
        targets: what is adapted.
        rank: of every adapter.
        dropout: of every adapter.
    """

    model: str
    batch: int
    length: int
    mixed: bool = False
    targets: str = "attention-qv"
    rank: int = 8
    dropout: float = 0.0

    def __str__(self) -> str:
        lengths = "mixed to " if self.mixed else ""
        dropout = f", dropout {self.dropout:g}" if self.dropout else ""
        return f"{self.model} {self.batch}x{lengths}{self.length} {self.targets} r={self.rank}{dropout}"


SMALL = (
    Cell("smollm2-135m", 1, 256),
    Cell("qwen2.5-0.5b", 1, 256),
    Cell("smollm2-135m", 4, 256),
    Cell("qwen2.5-0.5b", 4, 256),
    Cell("llama-3.1-8b", 1, 256),
    Cell("smollm2-135m", 2, 256, targets="all-linear", rank=16, dropout=0.05),
    Cell("smollm2-135m", 1, 64),
    Cell("qwen2.5-0.5b", 2, 512, mixed=True),
    Cell("llama-3.2-1b", 2, 256),
    Cell("llama-3.1-8b", 4, 512),
    Cell("qwen2.5-0.5b", 8, 1024),
    Cell("llama-3.1-8b", 1, 256, targets="all-linear", rank=16),
)
MODELS = ("smollm2-135m", "qwen2.5-0.5b", "llama-3.2-1b", "llama-3.1-8b")
FULL = (
    *SMALL,
    *(Cell(model, batch, length) for batch, length, model in product((1, 2, 4, 8), (64, 256, 1024), MODELS)),
    *(Cell(model, 2, 1024, mixed=True) for model in MODELS),
)
GRIDS: dict[str, tuple[Cell, ...]] = {
    "small": SMALL,
    "full": tuple(dict.fromkeys(FULL)),
    "tiny": (Cell("tiny-bert", 4, 8), Cell("tiny-llama", 2, 16, mixed=True)),
    "cpu": (
        Cell("minilm", 16, 32),
        Cell("smollm2-135m", 1, 64),
        Cell("minilm", 16, 40, mixed=True),
        Cell("minilm", 16, 32, targets="all-linear", rank=16, dropout=0.05),
        Cell("minilm", 4, 32),
        Cell("minilm", 1, 64),
        Cell("smollm2-135m", 4, 64),
    ),
}


def chosen(grid: str, models: Sequence[str] | None) -> tuple[Cell, ...]:
    """The cells of a grid, of these models only where some are named."""
    return tuple(cell for cell in GRIDS[grid] if not models or cell.model in models)
