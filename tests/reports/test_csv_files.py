"""CSV files that spreadsheets open."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from reports.csv_files import write_csv


@pytest.mark.parametrize("text", ["=1+1", "+cmd", "-cmd", "@SUM(A1)", "\t=1", "\n=1"])
def test_a_text_that_would_be_run_gets_an_apostrophe(tmp_path: Path, text: str) -> None:
    file = write_csv(pd.DataFrame({"name": [text, f"a{text}"], text: [1, 2]}), tmp_path / "new" / "t.csv")
    table = pd.read_csv(file)
    assert list(table["name"]) == [f"'{text}", f"a{text}"] and list(table.columns) == ["name", f"'{text}"]


def test_numbers_stay_numbers(tmp_path: Path) -> None:
    table = pd.DataFrame({"a": [-1.5, math.nan], "b": ["-2e-3", None], "c": [None, -3], "d": [True, None]})
    found = pd.read_csv(write_csv(table, tmp_path / "t.csv"))
    assert found["a"][0] == -1.5 and found["b"][0] == -0.002 and found["c"][1] == -3
    assert found.isna().sum().to_dict() == {"a": 1, "b": 1, "c": 1, "d": 1}


def test_quotes_and_line_breaks(tmp_path: Path) -> None:
    texts = ['say "no", twice', "two\nlines", "one\u2028two", "\r=1", "a\r\nb"]
    found = pd.read_csv(write_csv(pd.DataFrame({"a": texts}), tmp_path / "t.csv"))
    assert list(found["a"]) == [*texts[:3], "'\n=1", "a\nb"]
