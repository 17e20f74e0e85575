"""CSV files that no spreadsheet takes for a program."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\n")


def write_csv(table: pd.DataFrame, file: Path) -> Path:
    """Write a table, whole or not at all.

    Texts that a spreadsheet would run as a formula get an apostrophe in front (OWASP, "CSV Injection"): those that
    begin with = + - @, a tab or a line break and are no number. Numbers stay as they are. Carriage returns become
    line feeds: Python before 3.13 does not quote them, and readers would see a new row.

    Returns:
        The file.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(file.name + ".part")
    safe = table.copy(deep=False)
    for name in table.columns:
        if not pd.api.types.is_numeric_dtype(table[name]):
            safe[name] = table[name].map(_harmless)
    safe.rename(columns=_harmless).to_csv(part, index=False)
    part.replace(file)
    return file


def _harmless(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = value.replace("\r\n", "\n").replace("\r", "\n")
    return f"'{text}" if text.startswith(_FORMULA_STARTS) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
