"""Tables of other people's results, as files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lora_sweep.importing import import_table
from lora_sweep.store import RunFolder
from reports import Results, read_results

DATA = Path(__file__).parent / "data"
"""ray_results.csv and ray_result.jsonl were written by Ray Tune 2.60: `ResultGrid.get_dataframe()`, and the trials'
result.json one after the other. Trials 0 and 3 ended with an exception after two of four iterations."""

Import = Callable[..., Results]


@pytest.fixture
def data() -> Path:
    return DATA


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    def write(name: str, content: str | bytes) -> Path:
        file = tmp_path / name
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return file

    return write


@pytest.fixture
def imported(write) -> Import:
    """The results of a table that is given as text (a csv unless `kind` says otherwise), with a map as YAML."""

    def run(table: str | bytes, map_text: str | None = None, kind: str = "csv", outcomes: str | None = None) -> Results:
        return read_results(folder(table, map_text, kind, outcomes))

    def folder(table: str | bytes, map_text: str | None, kind: str, outcomes: str | None) -> RunFolder:
        return import_table(
            write(f"sweep.{kind}", table),
            columns=None if map_text is None else write("map.yaml", map_text),
            outcomes=None if outcomes is None else write("outcomes.csv", outcomes),
        )

    return run
