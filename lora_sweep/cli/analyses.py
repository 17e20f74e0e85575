"""The command that measures a finished run: analyze."""

from __future__ import annotations

from typing import Annotated

import typer

from lora_sweep.cli.arguments import Run


def analyze(
    run: Run,
    top: Annotated[int, typer.Option(min=1, help="How many of the leading complete trials.")] = 3,
    skip: Annotated[
        list[str] | None, typer.Option(help="Leave out spectra, rank_curves, importance or latency.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
) -> None:
    """Measure the leading trials' rank curves, spectra, layers and latency, for the report."""
    from lora_sweep.analysis import analyse_run
    from lora_sweep.store import RunFolder

    folder = RunFolder.open(run)
    written = analyse_run(
        folder, top, skip or (), device, told=lambda what: typer.echo(f"measuring {what} ...", err=True)
    )
    for name in written:
        typer.echo(str(folder.path / "analysis" / f"{name}.json"))
    typer.echo(f"show it: lora-sweep report {folder.path}", err=True)
