"""Texts and marks stand out from what they stand on (WCAG 2.2, 1.4.3 and 1.4.11), in both themes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from reports import style

CSS = (Path(style.__file__).parent / "templates" / "page.css").read_text(encoding="utf-8")
COLOURS = {name: pair for name, *pair in re.findall(r"--([a-z-]+): light-dark\((#\w{6}), (#\w{6})\)", CSS)}
TEXTS = [
    *((text, ground) for text in ("ink", "soft", "accent") for ground in ("paper", "card", "accent-soft")),
    ("warn", "paper"),
]  # fmt: skip


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(("text", "ground"), TEXTS)
def test_texts(text: str, ground: str, theme: int) -> None:
    assert contrast(COLOURS[text][theme], COLOURS[ground][theme]) >= 4.5


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_edges_of_controls_and_marks_in_figures(theme: int) -> None:
    paper = COLOURS["paper"][theme]
    marks = [COLOURS["edge"][theme], style.ACCENT, style.NEUTRAL, *style.rank_colours(range(8)).values()]
    assert min(contrast(mark, paper) for mark in marks) >= 3


def test_the_measure() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)
