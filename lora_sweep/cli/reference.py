"""Commands that show what there is: inspect, spaces."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lora_sweep.cli.arguments import AsJson
from lora_sweep.cli.output import print_json, print_table


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
        print_json({"base": file.base_name, "spec": file.spec.model_dump(mode="json"), "layers": rows})
        return
    parameters = sum(tensor.numel() for tensor in file.tensors.values())
    typer.echo(f"base: {file.base_name}; rank {file.spec.rank}, alpha {file.spec.alpha:g}; {parameters:,} parameters")
    if file.trained:
        typer.echo(f"trained in full: {', '.join(file.trained)}")
    print_table(
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


def spaces(as_json: AsJson = False) -> None:
    """List the presets of search spaces and the groups of target modules."""
    from search_spaces import presets

    if as_json:
        print_json({name: {"description": p.description, "space": p.space} for name, p in presets().items()})
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


def _values(values: tuple[float, ...], shown: int = 6) -> str:
    return " ".join(f"{value:.3g}" for value in values[:shown]) + (" ..." if len(values) > shown else "")
