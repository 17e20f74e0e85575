"""Commands that read run folders, or a table in place of one: report, pick."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lora_sweep.cli.arguments import AsJson, Run
from lora_sweep.cli.exporting import export_pick, tell_exported
from lora_sweep.cli.output import print_json, print_list

if TYPE_CHECKING:
    from reports import Limits

ReportFile = Annotated[
    Path | None,
    typer.Option("--output", dir_okay=False, help="The HTML file; by default report.html, or comparison.html."),
]
MaxParameters = Annotated[
    str | None, typer.Option(metavar="N", help="At most this many trainable parameters, such as 300k.")
]
MaxBytes = Annotated[str | None, typer.Option(metavar="N", help="At most this many bytes on disk, such as 1MB.")]
MaxLatency = Annotated[
    float | None, typer.Option(metavar="MS", help="At most this many milliseconds an unmerged pass, as measured.")
]
MinQuality = Annotated[
    str | None, typer.Option(metavar="X", help="At least this on the evaluation data (at most, where lower is better).")
]
Costs = Annotated[
    str | None,
    typer.Option(
        metavar="COST",
        help="Cheapest in: parameters (default), bytes, latency, memory, train-time, or parameters=0.5,latency=0.5.",
    ),
]
OneError = Annotated[str, typer.Option(help="tie-set, or one-standard-error: a stricter convention inside it.")]


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
    trial: Annotated[str | None, typer.Option(help="Take this trial, or this cut such as 009-a1df30@rank4.")] = None,
    max_parameters: MaxParameters = None,
    max_bytes: MaxBytes = None,
    max_latency: MaxLatency = None,
    min_quality: MinQuality = None,
    cost: Costs = None,
    parsimony: OneError = "tie-set",
    export: Annotated[Path | None, typer.Option(help="Write the adapter into this new folder.")] = None,
    merge: Annotated[bool, typer.Option(help="With --export: write the merged model to EXPORT/merged too.")] = False,
    no_check: Annotated[bool, typer.Option("--no-check", help="With --export: skip its evaluation.")] = False,
    as_json: AsJson = False,
) -> None:
    """Name the adapter to use, and export it: evaluated through PEFT, with a model card and a training script."""
    from lora_sweep.errors import ConfigError
    from lora_sweep.store import RunFolder
    from reports import CostRule, read_results
    from reports import pick as choose
    from reports.pick_data import pick_data

    for option, given in (("--merge", merge), ("--no-check", no_check)):
        if given and export is None:
            raise ConfigError(option, "must go with --export", None, "Add --export DIR.")
    if parsimony not in ("tie-set", "one-standard-error"):
        raise ConfigError("--parsimony", "must be tie-set or one-standard-error", parsimony)
    limits = _limits(max_parameters, max_bytes, max_latency, min_quality)
    folder = RunFolder.open(run)
    results = read_results(folder)
    choice = choose(
        results,
        trial=trial,
        limits=limits,
        cost=None if cost is None else CostRule.parse(cost),
        parsimony="one-standard-error" if parsimony == "one-standard-error" else "tie-set",
    )
    exported = None
    if export is not None:
        exported = export_pick(folder, choice, export, merge=merge, check=not no_check)
    if as_json:
        found = {"export": export, "reevaluated": exported and exported.row}
        print_json(pick_data(choice, results) | found)
    else:
        print_list("", choice.why)
    if exported is not None:
        tell_exported(exported, as_json)


def _limits(parameters: str | None, size: str | None, latency: float | None, quality: str | None) -> Limits:
    from reports.pick_limits import Limits, parse_amount, parse_quality

    return Limits(
        max_parameters=None if parameters is None else parse_amount(parameters, "--max-parameters"),
        max_bytes=None if size is None else parse_amount(size, "--max-bytes"),
        max_latency_ms=latency,
        min_quality=None if quality is None else parse_quality(quality),
    )
