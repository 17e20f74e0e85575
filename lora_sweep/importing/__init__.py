"""Results of somebody else's sweep, from a table to a run folder that the reports can read (docs/import.md)."""

from __future__ import annotations

from lora_sweep.importing.mapping import ImportMap, load_map, parse_map
from lora_sweep.importing.run import import_table

__all__ = ["ImportMap", "import_table", "load_map", "parse_map"]
