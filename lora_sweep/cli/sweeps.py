"""Commands that sweep, or say what a sweep would do: demo, run, resume, plan."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lora_sweep.cli.arguments import Address, AsJson, Run, Settings, SweepFile
from lora_sweep.cli.output import print_json, print_table
from lora_sweep.cli.session import drive, finish, new_sweep, prepared

if TYPE_CHECKING:
    from lora_sweep.store import RunFolder


def demo(
    output: Annotated[Path, typer.Option(help="The run folder; must not exist yet.")] = Path("runs/demo"),
) -> None:
    """Run the main job on the embedded default: MiniLM on tweets."""
    from lora_sweep.demo import demo_sweep
    from lora_sweep.store import check_is_free
    from lora_sweep.sweep_file import parse_sweep

    check_is_free(output)
    data = output.parent / f"{output.name}-data"
    config = parse_sweep(demo_sweep(data.absolute()), "demo", Path.cwd())
    new_sweep(config, "demo", output, None)


def run(
    sweep: SweepFile,
    settings: Settings = None,
    output: Annotated[Path, typer.Option(help="Where the run folder goes.")] = Path("runs"),
    name: Annotated[
        str | None, typer.Option(help="The run folder's name; by default the sweep's and the time.")
    ] = None,
    address: Address = None,
) -> None:
    """Run a sweep and report."""
    from lora_sweep.store import check_is_free
    from lora_sweep.sweep_file import load_sweep

    config = load_sweep(sweep, settings or [])
    started = datetime.now().strftime("%Y%m%d-%H%M%S")
    folder = output / (name or f"{config.name or sweep.stem}-{started}")
    check_is_free(folder)
    new_sweep(config, sweep.name, folder, address)


def resume(run: Run, address: Address = None) -> None:
    """Go on with a run that was interrupted."""
    from lora_sweep.store import RunFolder, check_made_here
    from lora_sweep.sweep_file import load_resolved

    folder = RunFolder.open(run)
    check_made_here(folder)
    if folder.analysis("arms") is not None:
        from lora_sweep.cli.recommending import go_on

        go_on(folder, "auto", address)
        return
    config = load_resolved(folder.sweep_file)
    if _is_complete(folder):
        from lora_sweep.preflight import check_unchanged, preflight

        check_unchanged(folder.info(), preflight(config, str(folder.sweep_file)).facts)
        finish(folder)
        return
    with prepared(config, str(folder.sweep_file), folder.path, address) as (checked, cluster):
        from lora_sweep.preflight import check_unchanged

        check_unchanged(folder.info(), checked.facts)
        drive(config, checked, folder, checked.facts, engines=cluster.wait())
        cluster.end()
        finish(folder)


def _is_complete(run: RunFolder) -> bool:
    """Whether nothing is left to train or to measure; of a failed trial only Tune knows whether it may try again."""
    measured = all(run.analysis(name) is not None for name in ("baselines", "finalists"))
    failed = any(record.status == "failed" for record in run.records())
    return run.info().get("status") == "complete" and measured and not failed


def plan(sweep: SweepFile, settings: Settings = None, as_json: AsJson = False) -> None:
    """Show what a sweep would train, before any training."""
    from lora_sweep.adapters import base_parameters
    from lora_sweep.plan import plan_sweep, planned_trials
    from lora_sweep.preflight import preflight
    from lora_sweep.sweep_file import load_sweep

    config = load_sweep(sweep, settings or [])
    checked = preflight(config, sweep.name)
    rows = plan_sweep(config, checked.base, sweep.name)
    if as_json:
        print_json([row.as_dict() for row in rows])
        return
    size = config.resolved_space().size()
    total = base_parameters(checked.base.model)
    trials, new = planned_trials(config), config.finalists.seeds
    typer.echo(f"{config.model.name}: {total:,} parameters; {trials} trials ({config.search.algorithm})")
    if new:
        top = min(config.finalists.top, trials // config.search.repeats)
        typer.echo(f"finalists: {top}, each trained again with {new} new seed{'s' if new > 1 else ''}")
    typer.echo(f"space: {size if size is not None else 'infinitely many'} configurations, {len(rows)} sizes")
    biased = any(row.bias_parameters for row in rows)
    print_table(
        [
            "targets", "rank", "layers", *(["biases"] if biased else []), "trainable", "share", "times fewer",
            "adapter (fp32)", "adapter (bf16)",
        ],
        [
            [
                row.target_text, row.ranks, str(row.layers), *([f"{row.bias_parameters:,}"] if biased else []),
                f"{row.trainable_parameters:,}", f"{row.share:.4%}", f"{row.reduction:,.0f}",
                f"{row.adapter_bytes_fp32 / 1e6:.2f} MB", f"{row.adapter_bytes_bf16 / 1e6:.2f} MB",
            ]
            for row in rows
        ],
    )  # fmt: skip
    for note in checked.notes:
        typer.echo(f"space: {note}")
    for note in checked.task.notes:
        typer.echo(f"data: {note}")
