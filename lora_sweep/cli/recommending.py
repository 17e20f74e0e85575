"""The command that places ranks by measured importance, and puts them to the test: recommend."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lora_sweep.cli.arguments import Address, AsJson, Run
from lora_sweep.cli.output import print_json, print_table

if TYPE_CHECKING:
    from lora_sweep.config import SweepConfig
    from lora_sweep.records import TrialConfig
    from lora_sweep.store import RunFolder
    from lora_sweep.sweep.arms import ValidationPlan

SpaceFile = Annotated[
    Path | None,
    typer.Option("--output", metavar="SPACE.yaml", help="A sweep around the ranks; by default RUN/recommended.yaml."),
]


def recommend(
    run: Run,
    parameters: Annotated[
        int | None, typer.Option(min=1, help="Budget of LoRA parameters; by default the trial's own.")
    ] = None,
    trial: Annotated[str | None, typer.Option(help="Measure this trial; by default the best complete one.")] = None,
    validate: Annotated[bool, typer.Option("--validate", help="Train and compare with uniform ranks.")] = False,
    seeds: Annotated[int, typer.Option(min=2, help="Seeds to compare the arms over.")] = 3,
    permutations: Annotated[int, typer.Option(min=1, help="Random placements of the same ranks.")] = 2,
    rates: Annotated[int, typer.Option(min=1, help="Learning rates that every arm tries.")] = 3,
    margin: Annotated[float, typer.Option(min=0, help="A difference within it does not matter.")] = 0.01,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps of a trial; by default the trial's own.")] = None,
    output: SpaceFile = None,
    as_json: AsJson = False,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto, for what is measured.")] = "auto",
    address: Address = None,
) -> None:
    """Recommend a rank for every layer under a budget; with --validate, find out whether that is better."""
    from lora_sweep.analysis.recommended_space import recommended_sweep
    from lora_sweep.store import RunFolder, check_made_here
    from lora_sweep.sweep_file import load_resolved
    from reports.recommendation import read_recommendation, recommendation_sentences

    folder = RunFolder.open(run)
    check_made_here(folder)
    config = load_resolved(folder.sweep_file)
    content = _measure(folder, trial, parameters, device)
    chosen = _trial(folder, content["trial_id"], steps)
    target = output or folder.path / "recommended.yaml"
    target.write_text(recommended_sweep(config, chosen, content).to_yaml(), encoding="utf-8")
    if validate:
        from lora_sweep.sweep.arms import plan_validation

        plan = plan_validation(
            chosen, content,
            metric=config.metric.name, mode=config.metric.mode, margin=margin, rates=rates, seeds=seeds,
            permutations=permutations, seed=config.search.seed,
        )  # fmt: skip
        _validate(folder, config, chosen, content, plan, device, address)
    found = read_recommendation(folder)
    assert found is not None
    if as_json:
        _print_json(content, found[1], target)
        return
    _print(content, recommendation_sentences(*found), target)


def go_on(folder: RunFolder, device: str, address: str | None) -> None:
    """Go on with RUN/validation, as `resume` does with a run."""
    from lora_sweep.errors import RunFolderError
    from lora_sweep.store import RunFolder
    from lora_sweep.sweep.validation import read_plan
    from lora_sweep.sweep_file import load_resolved
    from reports.recommendation import validation_sentences
    from reports.validation import read_validation

    run, plan = RunFolder.open(folder.path.resolve().parent), read_plan(folder)
    content = run.analysis("recommendation")
    if content is None or plan is None:
        raise RunFolderError(str(run.path), "must hold analysis/recommendation.json", None, "Run `recommend` on it.")
    trial = plan.arms[0].config
    chosen = _trial(run, plan.trial_id, None).model_copy(update={"steps": trial.steps, "eval_every": trial.eval_every})
    _validate(run, load_resolved(run.sweep_file), chosen, content, plan, device, address)
    found = read_validation(run)
    assert found is not None
    typer.echo("\n".join(validation_sentences(found)))


def _measure(folder: RunFolder, trial: str | None, parameters: int | None, device: str) -> dict[str, Any]:
    from lora_sweep.analysis import open_session
    from lora_sweep.analysis.recommend import recommend as measure

    typer.echo("measuring layers ...", err=True)
    return measure(open_session(folder, device), trial, parameters)


def _trial(folder: RunFolder, trial_id: str, steps: int | None) -> TrialConfig:
    """The configuration of a trial, with another budget where steps are given."""
    config = next(record.config for record in folder.records() if record.trial_id == trial_id)
    if steps is None:
        return config
    return config.model_copy(update={"steps": steps, "eval_every": -(-steps // 4)})


def _validate(
    run: RunFolder,
    config: SweepConfig,
    trial: TrialConfig,
    content: dict[str, Any],
    plan: ValidationPlan,
    device: str,
    address: str | None,
) -> None:
    from lora_sweep.analysis import open_session
    from lora_sweep.cli.session import drive
    from lora_sweep.preflight import preflight
    from lora_sweep.sweep.cluster import ray_cluster
    from lora_sweep.sweep.engines import start_engines
    from lora_sweep.sweep.staged import staged_search
    from lora_sweep.sweep.validation import FOLDER, begin_validation, is_finished, score_arms, validation_config

    if (run.path / FOLDER).exists() and is_finished(begin_validation(run, plan)):
        return
    tested = validation_config(config, trial, content, plan)
    checked = preflight(tested, "validation")
    with ray_cluster(address):
        engines = start_engines(tested, run.path / FOLDER)
        folder = begin_validation(run, plan)
        facts = {**checked.facts, "command": " ".join(["lora-sweep", *sys.argv[1:]])}
        drive(tested, checked, folder, facts, search=staged_search(plan, folder), engines=engines)
    typer.echo("scoring the arms on test ...", err=True)
    score_arms(open_session(folder, device), plan)


def _print(content: dict[str, Any], sentences: list[str], target: Path) -> None:
    from reports.recommendation import rank_lines

    typer.echo("\n".join(sentences) + "\n")
    columns, *rows = rank_lines(content)
    print_table(list(columns), [list(row) for row in rows])
    typer.echo(f"sweep around them: lora-sweep run {target}")


def _print_json(content: dict[str, Any], validation: Any, target: Path) -> None:
    from dataclasses import asdict

    told = None if validation is None else asdict(validation) | {"verdict": validation.verdict}
    print_json({**content, "validation": told, "space": str(target)})
