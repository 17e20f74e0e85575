"""What commands print: results to stdout, errors to stderr."""

from __future__ import annotations

import json
import math
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import typer


def print_table(columns: list[str], rows: list[list[str]]) -> None:
    """A table as wide as the terminal, or 200 columns where there is none."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=number < 2)  # ids are there to be copied
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console = Console()
    Console(width=console.width if console.is_terminal else 200).print(table)


def print_list(head: str, sentences: Sequence[str]) -> None:
    """The first sentence behind `head`, the others as a list; wrapped where there is a terminal."""
    width = min(shutil.get_terminal_size().columns, 120) if sys.stdout.isatty() else 0
    for number, sentence in enumerate(sentences):
        line, indent = (f"{head}{sentence}", "") if number == 0 else (f"- {sentence}", "  ")
        # ids and commands are there to be copied
        wrapper = textwrap.TextWrapper(
            width or len(line) + 1, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False
        )
        typer.echo(wrapper.fill(line))


def print_json(value: Any) -> None:
    """A value as JSON; what is not finite becomes null."""
    typer.echo(json.dumps(_strict(value), indent=2, default=str, allow_nan=False))


def _strict(value: Any) -> Any:
    """The value as JSON can hold it: what is not finite becomes null, a number of numpy's a plain one."""
    if isinstance(value, Mapping):
        return {key: _strict(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(inner) for inner in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def fail(message: str, code: int) -> NoReturn:
    """End with a message and an exit code."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(code)
