"""Commands that read a run folder: report, pick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lora_sweep.cli.arguments import AsJson, Run
from lora_sweep.cli.exporting import export_pick, tell_exported
from lora_sweep.cli.output import print_json

ReportFile = Annotated[
    Path | None, typer.Option("--output", dir_okay=False, help="The HTML file; by default RUN/report.html.")
]


def report(run: Run, output: ReportFile = None) -> None:
    """Write the HTML report and the tables of a run."""
    from lora_sweep.store import RunFolder
    from reports import write_report

    typer.echo(str(write_report(RunFolder.open(run), output)))


def pick(
    run: Run,
    trial: Annotated[str | None, typer.Option(help="Take this trial.")] = None,
    max_parameters: Annotated[int | None, typer.Option(min=1, help="At most this many trainable parameters.")] = None,
    export: Annotated[Path | None, typer.Option(help="Write the adapter into this new folder.")] = None,
    merge: Annotated[bool, typer.Option(help="With --export: write the merged model to EXPORT/merged too.")] = False,
    no_check: Annotated[bool, typer.Option("--no-check", help="With --export: skip its evaluation.")] = False,
    as_json: AsJson = False,
) -> None:
    """Name the adapter to use, and export it: evaluated through PEFT, with a model card and a training script."""
    from lora_sweep.errors import ConfigError
    from lora_sweep.store import RunFolder
    from reports import pick as choose

    for option, given in (("--merge", merge), ("--no-check", no_check)):
        if given and export is None:
            raise ConfigError(option, "must go with --export", None, "Add --export DIR.")
    folder = RunFolder.open(run)
    choice = choose(folder, max_parameters=max_parameters, trial=trial)
    exported = None
    if export is not None:
        exported = export_pick(folder, choice, export, merge=merge, check=not no_check)
    if as_json:
        found = {"export": export, "reevaluated": exported and exported.row}
        print_json({"trial_id": choice.trial_id, "chosen": choice.chosen, "why": choice.text, **found})
    else:
        typer.echo(choice.text)
    if exported is not None:
        tell_exported(exported, as_json)
