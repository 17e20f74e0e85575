"""Trials through Ray Tune in a pool of engines: the search, and the finalists once more with new seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from lora_sweep.store import RunFolder
from lora_sweep.sweep.callbacks import RecordKeeper
from lora_sweep.sweep.layout import TRIAL_CPUS
from lora_sweep.sweep.pool import Pool
from lora_sweep.sweep.progress import ProgressListener
from lora_sweep.sweep.trial import SweepTrial

PROCESS_FAILURES = 2
"""Times that a trial whose process fails is started again; failures of the trial itself are not repeated."""
CHECKPOINTS = 2


def train(
    experiment: str,
    searcher: Searcher,
    trials: int,
    scheduler: TrialScheduler,
    *,
    metric: str,
    run: RunFolder,
    pool: Pool,
    listener: ProgressListener,
) -> None:
    """Train trials to their ends, or go on with them where Tune's snapshot in RUN/tune/EXPERIMENT stands.

    Args:
        experiment: names the snapshot.
        searcher: suggests the trials; one that goes on comes out of the snapshot.
        trials: how many, at most.
        scheduler: who may train on; it, too, comes out of the snapshot.
        metric: what trials report.
        run: where records go; a trial whose record is there and is no failure does not train again.
        pool: where they train.
        listener: told of the progress.
    """
    finished = {record.trial_id: record.model_dump_json() for record in run.records() if record.status != "failed"}
    parameters: dict[str, Any] = {"broker": pool.broker, "metric": metric, "finished": finished}
    trainable = tune.with_resources(tune.with_parameters(SweepTrial, **parameters), {"cpu": TRIAL_CPUS})
    keeper = RecordKeeper(run, pool, listener)
    folder = run.path.resolve() / "tune"
    if _can_restore(folder / experiment):
        # the keeper, searcher and scheduler come out of Tune's own pickle (see RecordKeeper)
        tuner = tune.Tuner.restore(
            str(folder / experiment), trainable=trainable, resume_unfinished=True, resume_errored=True
        )
    else:
        tuner = tune.Tuner(
            trainable,
            tune_config=_tune_config(searcher, trials, scheduler, pool),
            run_config=_run_config(experiment, folder, keeper),
        )
    tuner.fit()


def _can_restore(experiment: Path) -> bool:
    return tune.Tuner.can_restore(str(experiment)) and any(experiment.glob("experiment_state-*.json"))


def _tune_config(searcher: Searcher, trials: int, scheduler: TrialScheduler, pool: Pool) -> tune.TuneConfig:
    return tune.TuneConfig(
        search_alg=searcher,
        scheduler=scheduler,
        num_samples=trials,
        max_concurrent_trials=pool.most_trials,
        reuse_actors=True,
        trial_name_creator=_trial_name,
        trial_dirname_creator=_trial_name,
    )


def _run_config(experiment: str, folder: Path, keeper: RecordKeeper) -> tune.RunConfig:
    return tune.RunConfig(
        name=experiment,
        storage_path=str(folder),
        callbacks=[keeper],
        verbose=0,
        failure_config=tune.FailureConfig(max_failures=PROCESS_FAILURES),
        checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1, num_to_keep=CHECKPOINTS),
    )


def _trial_name(trial: Any) -> str:
    return str(trial.config["trial_id"])
