"""An export under the eyes of a user: what is going on, what was written, and what is wrong with it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from lora_sweep.export import Exported
    from lora_sweep.store import RunFolder
    from reports import Pick


def export_pick(run: RunFolder, choice: Pick, folder: Path, *, merge: bool, check: bool) -> Exported:
    """Export a pick; a terminal is told what is going on."""
    from rich.console import Console
    from rich.markup import escape

    from lora_sweep.export import export_trial

    with Console(stderr=True).status("exporting") as status:
        return export_trial(
            run,
            choice.trial_id,
            folder,
            merge,
            check=check,
            chosen=choice.why,
            tell=lambda text: status.update(escape(text)),
        )


def tell_exported(exported: Exported, as_json: bool) -> None:
    """Say what was written and how it did; problems go to stderr, and an adapter not to be used ends with code 1."""
    if not as_json:
        if exported.figure:
            typer.echo(exported.figure)
        typer.echo(f"adapter: {exported.folder}")
        if (merged := exported.folder / "merged").is_dir():
            typer.echo(f"merged model: {merged}")
    for warning in exported.warnings:
        typer.echo(f"warning: {warning}", err=True)
    for error in exported.errors:
        typer.echo(f"error: {error}", err=True)
    if exported.errors:
        sys.exit(1)
