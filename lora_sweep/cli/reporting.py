"""Commands that read a run folder: report, pick."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lora_sweep.cli.arguments import AsJson, Run
from lora_sweep.cli.output import print_json, print_list

if TYPE_CHECKING:
    from reports import Limits

ReportFile = Annotated[
    Path | None, typer.Option("--output", dir_okay=False, help="The HTML file; by default RUN/report.html.")
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
    str,
    typer.Option(
        metavar="COST",
        help="What cheapest means: parameters, bytes, latency, memory, train-time, or parameters=0.5,latency=0.5.",
    ),
]
OneError = Annotated[str, typer.Option(help="tie-set, or one-standard-error: a stricter convention inside it.")]


def report(run: Run, output: ReportFile = None) -> None:
    """Write the HTML report and the tables of a run."""
    from lora_sweep.store import RunFolder
    from reports import write_report

    typer.echo(str(write_report(RunFolder.open(run), output)))


def pick(
    run: Run,
    trial: Annotated[str | None, typer.Option(help="Take this trial, or this cut such as 009-a1df30@rank4.")] = None,
    max_parameters: MaxParameters = None,
    max_bytes: MaxBytes = None,
    max_latency: MaxLatency = None,
    min_quality: MinQuality = None,
    cost: Costs = "parameters",
    parsimony: OneError = "tie-set",
    export: Annotated[Path | None, typer.Option(help="Write the adapter into this new folder.")] = None,
    merge: Annotated[bool, typer.Option(help="With --export: write the merged model to EXPORT/merged too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Name the adapter to use, and export it."""
    from lora_sweep.errors import ConfigError
    from lora_sweep.store import RunFolder
    from reports import CostRule, read_results
    from reports import pick as choose
    from reports.pick_data import pick_data

    if merge and export is None:
        raise ConfigError("--merge", "must go with --export", None, "Add --export DIR.")
    if parsimony not in ("tie-set", "one-standard-error"):
        raise ConfigError("--parsimony", "must be tie-set or one-standard-error", parsimony)
    limits = _limits(max_parameters, max_bytes, max_latency, min_quality)
    folder = RunFolder.open(run)
    results = read_results(folder)
    choice = choose(
        results,
        trial=trial,
        limits=limits,
        cost=CostRule.parse(cost),
        parsimony="one-standard-error" if parsimony == "one-standard-error" else "tie-set",
    )
    if export is not None:
        from lora_sweep.export import export_trial

        export_trial(folder, choice.trial_id, export, merge)
    if as_json:
        print_json(pick_data(choice, results) | {"export": export})
        return
    print_list("", choice.why)
    if export is not None:
        typer.echo(f"adapter: {export}" + (f"\nmerged model: {export / 'merged'}" if merge else ""))


def _limits(parameters: str | None, size: str | None, latency: float | None, quality: str | None) -> Limits:
    from reports.pick_limits import Limits, parse_amount, parse_quality

    return Limits(
        max_parameters=None if parameters is None else parse_amount(parameters, "--max-parameters"),
        max_bytes=None if size is None else parse_amount(size, "--max-bytes"),
        max_latency_ms=latency,
        min_quality=None if quality is None else parse_quality(quality),
    )
