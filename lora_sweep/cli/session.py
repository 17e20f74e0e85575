"""One sweep under the eyes of a user: the live display, Ctrl-C, and the outcome."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from lora_sweep.cli.output import fail, print_list, print_table
from lora_sweep.errors import InputError
from lora_sweep.garbage import collection_paused

if TYPE_CHECKING:
    from lora_sweep.config import SweepConfig
    from lora_sweep.preflight import Preflight
    from lora_sweep.store import RunFolder
    from lora_sweep.sweep.cluster import ClusterBeside
    from lora_sweep.sweep.engines import Engines
    from lora_sweep.sweep.search import Search


def new_sweep(config: SweepConfig, place: str, folder: Path, address: str | None) -> None:
    """Check, run and report a new sweep."""
    from lora_sweep.store import RunFolder

    with prepared(config, place, folder, address) as (checked, cluster):
        for note in checked.notes:
            typer.echo(f"space: {note}", err=True)
        facts = {**checked.facts, "command": " ".join(["lora-sweep", *sys.argv[1:]]), "commit": _commit()}
        engines = cluster.wait()
        run = RunFolder.create(folder)
        drive(config, checked, run, facts, engines=engines)
        cluster.end()
        finish(run)


@contextmanager
def prepared(
    config: SweepConfig, place: str, folder: Path, address: str | None
) -> Iterator[tuple[Preflight, ClusterBeside[Engines]]]:
    """A sweep that has been checked while its cluster and engines start; they end with the block.

    Nothing is written: `folder` is where the run folder is, or will be. What is wrong with the data is told before the
    cluster starts, and what is wrong with the base or the space before it has ended.
    """
    with interrupted_by_sigterm(), ExitStack() as stack:
        try:
            with collection_paused():
                from lora_sweep.preflight import preflight, read_task
                from lora_sweep.sweep.cluster import ClusterBeside
                from lora_sweep.sweep.engines import PATIENCE_SECONDS, start_engines

                task = read_task(config, place)
                # on this machine the base is checked meanwhile, which may have to be downloaded
                patience = None if address is None else PATIENCE_SECONDS
                begin = partial(start_engines, config, folder, patience)
                cluster = stack.enter_context(ClusterBeside(address, begin))
                checked = preflight(config, place, task)
                import_module("lora_sweep.sweep.driver")  # takes as long as the cluster takes to stand
            yield checked, cluster
        except InputError as error:
            fail(str(error), 2)


def drive(
    config: SweepConfig,
    checked: Preflight,
    run: RunFolder,
    facts: Mapping[str, Any],
    *,
    search: Search | None = None,
    engines: Engines | None = None,
) -> None:
    """Run under a live display; `search` and `engines` as for `run_sweep`."""
    from rich.console import Console

    from lora_sweep.live import LiveProgress
    from lora_sweep.sweep.driver import run_sweep

    with LiveProgress(Console(stderr=True), config.metric.name).drawing() as live, interrupted_by_sigterm():
        try:
            run_sweep(config, checked.task, run, facts=facts, listener=live, search=search, engines=engines)
        except KeyboardInterrupt:
            fail(f"interrupted; go on with: lora-sweep resume {run.path}", 1)


def finish(run: RunFolder) -> None:
    """Write the report and print the outcome."""
    from reports import SUMMARY_COLUMNS, pick, summary_table, write_report

    page = write_report(run)
    print_table(list(SUMMARY_COLUMNS), [list(row.summary) for row in summary_table(run)])
    typer.echo(f"\nreport: {page}")
    try:
        choice = pick(run)
    except InputError as error:
        reason = next((f" The first failed with {record.error}" for record in run.records() if record.error), "")
        fail(f"{error}{reason}", 1)
    print_list("pick: ", choice.why)
    typer.echo(f"export it: lora-sweep pick {run.path} --trial {choice.trial_id} --export DIR")


def _commit() -> str | None:
    """The commit of lora-sweep itself; None when it does not run from a checkout of its own."""
    import subprocess

    checkout = Path(__file__).parents[2]
    if not (checkout / ".git").exists():
        return None
    try:
        done = subprocess.run(["git", "-C", checkout, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


@contextmanager
def interrupted_by_sigterm() -> Iterator[None]:
    """Take SIGTERM, by which schedulers such as SLURM end a job, for Ctrl-C, so that what was begun is put in order."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
