"""Commands that read run folders, or a table in place of one: report, pick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lora_sweep.cli.arguments import AsJson, Run
from lora_sweep.cli.output import print_json

ReportFile = Annotated[
    Path | None,
    typer.Option("--output", dir_okay=False, help="The HTML file; by default report.html, or comparison.html."),
]


def report(
    runs: Annotated[
        list[Path] | None, typer.Argument(metavar="RUN...", help="A run folder; several are compared.")
    ] = None,
    output: ReportFile = None,
    table: Annotated[
        Path | None,
        typer.Option("--import", metavar="TABLE", dir_okay=False, help="Report results of somebody else's sweep."),
    ] = None,
    columns: Annotated[
        Path | None, typer.Option(metavar="MAP.yaml", dir_okay=False, help="With --import: what its columns mean.")
    ] = None,
    outcomes: Annotated[
        Path | None, typer.Option(metavar="FILE", dir_okay=False, help="With --import: answers on single examples.")
    ] = None,
    into: Annotated[
        Path | None, typer.Option(metavar="RUN", help="With --import: the run folder; by default TABLE-run.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="With --import: the run's name; by default the table's.")] = None,
) -> None:
    """Write the HTML report of a run, of an imported table, or of several runs beside each other."""
    from lora_sweep.errors import ConfigError
    from lora_sweep.store import RunFolder
    from reports import write_comparison, write_report

    if table is not None:
        if runs:
            raise ConfigError("--import", "must stand without a RUN", str(runs[0]), "Import first, then compare.")
        from lora_sweep.importing import import_table

        folder = import_table(table, columns=columns, outcomes=outcomes, into=into, name=name)
        typer.echo(f"imported: {folder.path}", err=True)
        typer.echo(str(write_report(folder, output)))
        return
    for option, value in (("--columns", columns), ("--outcomes", outcomes), ("--into", into), ("--name", name)):
        if value is not None:
            raise ConfigError(option, "must go with --import", None, "Add --import TABLE, or leave it out.")
    if not runs:
        raise ConfigError("RUN", "must be a run folder, or several", None, "Or import a table: --import TABLE.")
    folders = [RunFolder.open(run) for run in runs]
    typer.echo(str(write_report(folders[0], output) if len(folders) == 1 else write_comparison(folders, output)))


def pick(
    run: Run,
    trial: Annotated[str | None, typer.Option(help="Take this trial.")] = None,
    max_parameters: Annotated[int | None, typer.Option(min=1, help="At most this many trainable parameters.")] = None,
    export: Annotated[Path | None, typer.Option(help="Write the adapter into this new folder.")] = None,
    merge: Annotated[bool, typer.Option(help="With --export: write the merged model to EXPORT/merged too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Name the adapter to use, and export it."""
    from lora_sweep.errors import ConfigError
    from lora_sweep.store import RunFolder
    from reports import pick as choose

    if merge and export is None:
        raise ConfigError("--merge", "must go with --export", None, "Add --export DIR.")
    folder = RunFolder.open(run)
    choice = choose(folder, max_parameters=max_parameters, trial=trial)
    if export is not None:
        from lora_sweep.export import export_trial

        export_trial(folder, choice.trial_id, export, merge)
    if as_json:
        print_json({"trial_id": choice.trial_id, "chosen": choice.chosen, "why": choice.text, "export": export})
        return
    typer.echo(choice.text)
    if export is not None:
        typer.echo(f"adapter: {export}" + (f"\nmerged model: {export / 'merged'}" if merge else ""))
