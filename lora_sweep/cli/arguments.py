"""Arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

SweepFile = Annotated[Path, typer.Argument(metavar="SWEEP.yaml", help="The sweep.")]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]
Settings = Annotated[list[str] | None, typer.Option("--set", metavar="a.b=c", help="Set a key of the sweep.")]
Address = Annotated[str | None, typer.Option(help="Address of a running Ray cluster; by default Ray starts here.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
