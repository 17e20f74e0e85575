"""The command line: lora-sweep COMMAND. Results go to stdout, progress and errors to stderr.

Exit code 0: done; 2: bad input, told in one message; 1: failed.
"""

from __future__ import annotations

import json
import logging
import math
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lora_sweep.errors import InputError, LoraSweepError

if TYPE_CHECKING:
    from lora_sweep.config import SweepConfig
    from lora_sweep.preflight import Preflight
    from lora_sweep.store import RunFolder

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # whose boxes would spread a usage error over many lines
    help="Which LoRA? Sweep and find out.",
)

SweepFile = Annotated[Path, typer.Argument(metavar="SWEEP.yaml", help="The sweep.")]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]
Settings = Annotated[list[str] | None, typer.Option("--set", metavar="a.b=c", help="Set a key of the sweep.")]
Address = Annotated[str | None, typer.Option(help="Address of a running Ray cluster; by default Ray starts here.")]
ReportFile = Annotated[
    Path | None, typer.Option("--output", dir_okay=False, help="The HTML file; by default RUN/report.html.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
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
    _sweep(config, "demo", output, None)


@app.command()
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
    _sweep(config, sweep.name, folder, address)


@app.command()
def resume(run: Run, address: Address = None) -> None:
    """Go on with a run that was interrupted."""
    from lora_sweep.preflight import check_unchanged, preflight
    from lora_sweep.store import RunFolder
    from lora_sweep.sweep.cluster import open_cluster
    from lora_sweep.sweep_file import load_sweep

    folder = RunFolder.open(run)
    config = load_sweep(folder.sweep_file, [])
    checked = preflight(config, str(folder.sweep_file))
    check_unchanged(folder.info(), checked.facts)
    with open_cluster(config, address):
        _drive(config, checked, folder, checked.facts)
    _finish(folder)


@app.command()
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
        _print_json([row.as_dict() for row in rows])
        return
    size = config.resolved_space().size()
    total = base_parameters(checked.base.model)
    trials = planned_trials(config)
    typer.echo(f"{config.model.name}: {total:,} parameters; {trials} trials ({config.search.algorithm})")
    typer.echo(f"space: {size if size is not None else 'infinitely many'} configurations, {len(rows)} sizes")
    _print_table(
        ["targets", "rank", "layers", "trainable", "share", "times fewer", "adapter (fp32)", "adapter (bf16)"],
        [
            [
                row.target_text, str(row.rank), str(row.layers), f"{row.trainable_parameters:,}", f"{row.share:.4%}",
                f"{row.reduction:,.0f}", f"{row.adapter_bytes_fp32 / 1e6:.2f} MB",
                f"{row.adapter_bytes_bf16 / 1e6:.2f} MB",
            ]
            for row in rows
        ],
    )  # fmt: skip
    for note in checked.task.notes:
        typer.echo(f"data: {note}")


@app.command()
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


@app.command()
def report(run: Run, output: ReportFile = None) -> None:
    """Write the HTML report and the tables of a run."""
    from lora_sweep.store import RunFolder
    from reports import write_report

    typer.echo(str(write_report(RunFolder.open(run), output)))


@app.command()
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
        _print_json({"trial_id": choice.trial_id, "chosen": choice.chosen, "why": choice.text, "export": export})
        return
    typer.echo(choice.text)
    if export is not None:
        typer.echo(f"adapter: {export}" + (f"\nmerged model: {export / 'merged'}" if merge else ""))


@app.command()
def inspect(
    adapter: Annotated[Path, typer.Argument(metavar="ADAPTER", help="A folder in PEFT's format.")],
    as_json: AsJson = False,
) -> None:
    """Show an adapter's shapes, norms and singular values."""
    from lora_sweep.adapters import read_adapter
    from lora_sweep.analysis.spectrum import spectra

    file = read_adapter(adapter)
    layers = spectra(file)
    if as_json:
        rows = [vars(layer) | {"stable_rank": layer.stable_rank} for layer in layers]
        _print_json({"base": file.base_name, "spec": file.spec.model_dump(mode="json"), "layers": rows})
        return
    parameters = sum(tensor.numel() for tensor in file.tensors.values())
    typer.echo(f"base: {file.base_name}; rank {file.spec.rank}, alpha {file.spec.alpha:g}; {parameters:,} parameters")
    if file.trained:
        typer.echo(f"trained in full: {', '.join(file.trained)}")
    _print_table(
        ["layer", "out x in", "rank", "|A|", "|B|", "|update|", "stable rank", "singular values"],
        [
            [
                layer.name, f"{layer.shape[0]} x {layer.shape[1]}", str(layer.rank), f"{layer.norm_a:.3g}",
                f"{layer.norm_b:.3g}", f"{layer.norm_update:.3g}", f"{layer.stable_rank:.2f}",
                _values(layer.singular_values),
            ]
            for layer in layers
        ],
    )  # fmt: skip


@app.command()
def spaces(as_json: AsJson = False) -> None:
    """List the presets of search spaces and the groups of target modules."""
    from search_spaces import presets

    if as_json:
        _print_json({name: {"description": p.description, "space": p.space} for name, p in presets().items()})
        return
    import yaml

    for name, preset in presets().items():
        typer.echo(f"{name}: {preset.description}")
        text = yaml.safe_dump(dict(preset.space), sort_keys=False, default_flow_style=None)
        typer.echo("".join(f"    {line}\n" for line in text.splitlines()))
    from lora_sweep.target_groups import ALL_LINEAR, GROUPS, ROLES

    typer.echo("target groups and the endings of the layers' names that they match:")
    for group, roles in GROUPS.items():
        typer.echo(f"    {group}: {', '.join(ending for role in roles for ending in ROLES[role])}")
    typer.echo(f"    {ALL_LINEAR}: every linear layer but the task head, the output embeddings and poolers")


def main() -> None:
    """Entry point: run the command, and turn errors into messages and exit codes."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    for chatty in ("huggingface_hub", "ray.tune"):  # what matters of theirs is told in our own words
        logging.getLogger(chatty).setLevel(logging.CRITICAL)
    try:
        app(prog_name="lora-sweep", standalone_mode=True)
    except InputError as error:
        _fail(str(error), 2)
    except LoraSweepError as error:
        _fail(str(error), 1)
    except OSError as error:
        if error.filename is None:
            raise
        _fail(f"{error.filename}: {error.strerror}", 1)


def _fail(message: str, code: int) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(code)


def _sweep(config: SweepConfig, place: str, folder: Path, address: str | None) -> None:
    """Check, run and report a new sweep."""
    from lora_sweep.preflight import preflight
    from lora_sweep.store import RunFolder
    from lora_sweep.sweep.cluster import open_cluster

    checked = preflight(config, place)
    facts = {**checked.facts, "command": " ".join(["lora-sweep", *sys.argv[1:]]), "commit": _commit()}
    with open_cluster(config, address):
        run = RunFolder.create(folder)
        _drive(config, checked, run, facts)
    _finish(run)


def _commit() -> str | None:
    """The commit of lora-sweep itself; None when it does not run from a checkout of its own."""
    import subprocess

    checkout = Path(__file__).parent.parent
    if not (checkout / ".git").exists():
        return None
    try:
        done = subprocess.run(["git", "-C", checkout, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _drive(config: SweepConfig, checked: Preflight, run: RunFolder, facts: Mapping[str, Any]) -> None:
    """Run under a live display."""
    from rich.console import Console

    from lora_sweep.live import LiveProgress
    from lora_sweep.sweep.driver import run_sweep

    with LiveProgress(Console(stderr=True), config.metric.name).drawing() as live, _interrupted_by_sigterm():
        try:
            run_sweep(config, checked.task, run, facts=facts, listener=live)
        except KeyboardInterrupt:
            _fail(f"interrupted; go on with: lora-sweep resume {run.path}", 1)


@contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """Take SIGTERM, by which schedulers such as SLURM end a job, for Ctrl-C; Ray's own handler would just exit."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _finish(run: RunFolder) -> None:
    """Write the report and print the outcome."""
    from reports import SUMMARY_COLUMNS, pick, summary_table, write_report

    page = write_report(run)
    _print_table(list(SUMMARY_COLUMNS), [list(row.summary) for row in summary_table(run)])
    typer.echo(f"\nreport: {page}")
    try:
        choice = pick(run)
    except InputError as error:
        reason = next((f" The first failed with {record.error}" for record in run.records() if record.error), "")
        _fail(f"{error}{reason}", 1)
    typer.echo(f"pick: {choice.text}\nexport it: lora-sweep pick {run.path} --trial {choice.trial_id} --export DIR")


def _values(values: tuple[float, ...], shown: int = 6) -> str:
    return " ".join(f"{value:.3g}" for value in values[:shown]) + (" ..." if len(values) > shown else "")


def _print_table(columns: list[str], rows: list[list[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=number < 2)  # ids are there to be copied
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console = Console()
    Console(width=console.width if console.is_terminal else 200).print(table)


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(_strict(value), indent=2, default=str, allow_nan=False))


def _strict(value: Any) -> Any:
    """The value as JSON can hold it: what is not finite becomes null, a number of numpy's a plain one."""
    if isinstance(value, Mapping):
        return {key: _strict(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(inner) for inner in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
