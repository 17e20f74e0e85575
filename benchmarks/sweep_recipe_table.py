"""What `sweep_recipe.py` measured, as tables in the terminal."""

from __future__ import annotations

from statistics import fmean
from typing import Any

from rich.console import Console
from rich.table import Table


def say(measured: dict[str, Any]) -> None:
    """Print it all."""
    console = Console(width=max(120, Console().width))
    device = measured["device"]
    console.print(f"{device['processor']}, {device['cores']} cores; the recipe's set-up: {measured['setup']}")
    for name, seconds in measured["setups_seconds"].items():
        console.print(f"  {name}: {seconds:.0f} s")
    for dropout, sides in measured["runs"].items():
        console.print(_makespans(measured, dropout))
        for name, ratio in measured["ratio"][dropout].items():
            ours, recipe = measured["variants"][name]
            spread = f"{ratio['min']:.2f} to {ratio['max']:.2f}"
            console.print(f"{name}: {ours} is {ratio['median']:.2f} times as fast as {recipe} ({spread})")
        for side, runs in sides.items():
            console.print(_phases(side, runs))
        console.print(_quality(sides, measured["settings"]["candidates"]))


def _makespans(measured: dict[str, Any], dropout: str) -> Table:
    table = Table("side", "median", "min", "max", "runs", title=f"Makespan in seconds, LoRA dropout {dropout}")
    for side, spread in measured["makespan"][dropout].items():
        runs = len(measured["runs"][dropout][side])
        table.add_row(side, *(f"{spread[key]:.1f}" for key in ("median", "min", "max")), str(runs))
    return table


def _phases(side: str, runs: list[dict[str, Any]]) -> str:
    """One line: mean seconds of each phase."""
    phases = {name: fmean(run["phases"][name] for run in runs) for name in runs[0]["phases"]}
    apart = {name: fmean(run["apart"][name] for run in runs) for name in runs[0].get("apart", {})}
    texts = [", ".join(f"{name} {seconds:.1f}" for name, seconds in part.items()) for part in (phases, apart) if part]
    return f"{side}, mean seconds: " + "; not counted: ".join(texts)


def _quality(sides: dict[str, list[dict[str, Any]]], names: list[str]) -> Table:
    """What every configuration reached on either side after its last step, first run of each."""
    table = Table("configuration", *(f"{side}\naccuracy, loss, train" for side in sides), "parameters")
    firsts = [runs[0]["trials"] for runs in sides.values()]
    for name in names:
        cells = [
            f"{trials[name]['accuracy']:.3f}  {trials[name]['loss']:.3f}  {trials[name]['train_loss']:.3f}"
            for trials in firsts
        ]
        counts = sorted({f"{int(trials[name]['trainable_parameters']):,}" for trials in firsts})
        table.add_row(name, *cells, " or ".join(counts))
    return table
