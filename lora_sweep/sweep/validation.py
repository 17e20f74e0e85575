"""Recommended ranks put to the test: RUN/validation, a run of its own (see `arms` for what it trains)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lora_sweep.analysis.cut import budget_ranks, cut, decompose
from lora_sweep.analysis.recommended_space import recommended_space
from lora_sweep.config import SweepConfig
from lora_sweep.errors import RunFolderError
from lora_sweep.records import TrialConfig, TrialRecord
from lora_sweep.store import RunFolder
from lora_sweep.sweep.arms import Assignment, ValidationPlan, finals, tuning

if TYPE_CHECKING:
    from lora_sweep.adapters import AdapterFile
    from lora_sweep.analysis.session import AnalysisSession

FOLDER = "validation"
PLAN = "arms"
CUT = "@cut"
SPLIT = "test"


def begin_validation(run: RunFolder, plan: ValidationPlan) -> RunFolder:
    """The folder of a validation, new or to go on with.

    Raises:
        RunFolderError: the one that is there tests other ranks, or in another way.
    """
    path = run.path / FOLDER
    if path.exists():
        before = read_plan(RunFolder(path))
        if before != plan:
            rule = "must be a validation of the same recommendation with the same seeds, rates, permutations and steps"
            fix = "Rename or remove it to start anew; `lora-sweep resume` on it goes on with its own settings."
            raise RunFolderError(str(path), rule, None, fix)
        return RunFolder(path)
    folder = RunFolder.create(path)
    _write(folder, plan, [])
    # a validation compares its arms with one another alone
    folder.write_analysis("baselines", {"rows": []})
    return folder


def read_plan(folder: RunFolder) -> ValidationPlan | None:
    """The plan of a validation; None when the folder is none."""
    content = folder.analysis(PLAN)
    return None if content is None else ValidationPlan.model_validate(content["plan"])


def is_finished(folder: RunFolder) -> bool:
    """Whether a validation has trained and scored everything."""
    rows = (folder.analysis(PLAN) or {}).get("trials") or []
    return bool(rows) and all(row["status"] != "missing" for row in rows)


def validation_config(
    config: SweepConfig, trial: TrialConfig, recommendation: Mapping[str, Any], plan: ValidationPlan
) -> SweepConfig:
    """The validation as a sweep: what is the same in all of its trials, with the arms as its space.

    Args:
        config: the run's.
        trial: the configuration that the recommendation is from, with the budget of steps to train for.
        recommendation: the content of RUN/analysis/recommendation.json.
        plan: the validation.
    """
    rates = list(dict.fromkeys(plan.rates))
    space = recommended_space(trial, recommendation)
    return SweepConfig.model_validate(
        config.model_dump(mode="json")
        | {
            "name": f"{config.name or 'run'} validation",
            "space": space | {"learning_rate": rates, "seed": [plan.tuning_seed, *plan.seeds]},
            "search": {"algorithm": "random", "trials": plan.trials, "seed": config.search.seed},
            "scheduler": {"type": "fifo"},
            "budget": {"steps": trial.steps, "eval_every": trial.eval_every},
            "finalists": {"top": 1},
        }
    )


def score_arms(session: AnalysisSession, plan: ValidationPlan) -> None:
    """Cut what is to be cut, show `test` to every final adapter, and write who was what to arms.json.

    All arms are scored here, on one device and in one dtype.

    Args:
        session: the validation's own folder, see `open_session`.
        plan: the validation.
    """
    folder = session.run
    records = {record.trial_id: record for record in folder.records()}
    chosen = finals(plan, records) or []
    kinds = {arm.name: arm.kind for arm in plan.arms}
    rows = [_row(one, records, kinds) for one in (*tuning(plan), *chosen)]
    wanted = {
        row["adapter"]: records[row["trial_id"]]
        for row in rows
        if row["role"] == "final" and row["status"] == "complete"
    }
    for name, record in wanted.items():
        adapter = _adapter(session, name, record, plan)
        found = session.evaluate({name: adapter}, SPLIT, write=name.endswith(CUT))[name]
        session.write_outcomes(name, SPLIT, record.step, found.scores)
    _write(folder, plan, rows, session.facts())


def _adapter(session: AnalysisSession, name: str, record: TrialRecord, plan: ValidationPlan) -> AdapterFile:
    adapter = session.adapter(record.trial_id)
    if not name.endswith(CUT):
        return adapter
    svds = decompose(adapter)
    return cut(adapter, svds, budget_ranks(svds, plan.budget))


def _row(one: Assignment, records: Mapping[str, TrialRecord], kinds: Mapping[str, str]) -> dict[str, Any]:
    row, record = one.row(), records.get(one.candidate.trial_id)
    is_cut = one.role == "final" and kinds[one.arm] == "svd"
    return row | {
        "adapter": row["trial_id"] + (CUT if is_cut else ""),
        "status": record.status if record else "missing",
        "tokens": record.tokens if record else 0,
        "device_seconds": record.cost.device_seconds if record else 0.0,
    }


def _write(
    folder: RunFolder, plan: ValidationPlan, rows: list[dict[str, Any]], facts: Mapping[str, Any] | None = None
) -> None:
    content = {"plan": plan.model_dump(mode="json"), "trials": rows, **(facts or {})}
    folder.write_analysis(PLAN, content)
