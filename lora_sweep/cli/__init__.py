"""The command line: lora-sweep COMMAND. Results go to stdout, progress and errors to stderr.

Exit code 0: done; 2: bad input, told in one message; 1: failed.
"""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import typer

from lora_sweep import __version__
from lora_sweep.cli.analyses import analyze
from lora_sweep.cli.output import fail
from lora_sweep.cli.recommending import recommend
from lora_sweep.cli.reference import inspect, spaces
from lora_sweep.cli.reporting import pick, report
from lora_sweep.cli.sweeps import demo, plan, resume, run
from lora_sweep.errors import InputError, LoraSweepError
from lora_sweep.garbage import end_without_collection

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # whose boxes would spread a usage error over many lines
    help="Which LoRA? Sweep and find out.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lora-sweep {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    pass


for command in (demo, run, resume, plan, analyze, recommend, report, pick, inspect, spaces):
    app.command()(command)


def main() -> None:
    """Entry point: run the command, and turn errors into messages and exit codes."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    for chatty in ("huggingface_hub", "ray.tune"):  # what matters of theirs is told in our own words
        logging.getLogger(chatty).setLevel(logging.CRITICAL)
    end_without_collection()
    try:
        app(prog_name="lora-sweep", standalone_mode=True)
    except InputError as error:
        fail(str(error), 2)
    except LoraSweepError as error:
        fail(str(error), 1)
    except OSError as error:
        if error.filename is None:
            raise
        fail(f"{error.filename}: {error.strerror}", 1)
