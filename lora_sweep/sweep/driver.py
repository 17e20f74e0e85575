"""A sweep from start to end: the cluster, the engines, Tune, the baselines, the finalists.

A sweep that was interrupted or killed goes on when `run_sweep` is called again: Tune's snapshot (written about every
second) brings back its trials, the searcher, and through the trials' last results ASHA's rungs. A trial whose record is
in trials.jsonl as complete or stopped reports that record again and never trains twice; a trial that was cut off goes
on from its last evaluation. A trial's result does not depend on the interruption; which configurations TPE suggests and
whom ASHA stops depends on the order in which trials report, as in every asynchronous search.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray import tune

from lora_sweep.store import RunFolder
from lora_sweep.sweep.baselines import RemoteEngine, measure_baselines
from lora_sweep.sweep.callbacks import RecordKeeper
from lora_sweep.sweep.cluster import open_cluster
from lora_sweep.sweep.finalists import score_finalists
from lora_sweep.sweep.layout import TRIAL_CPUS, Placement, choose_slots
from lora_sweep.sweep.lock import hold
from lora_sweep.sweep.pool import Pool, start_pool
from lora_sweep.sweep.progress import ProgressListener, Silence
from lora_sweep.sweep.runlog import RunLog
from lora_sweep.sweep.schedule import build_scheduler
from lora_sweep.sweep.search import Search, build_search
from lora_sweep.sweep.trial import SweepTrial

if TYPE_CHECKING:
    from lora_sweep.config import SweepConfig
    from lora_sweep.tasks import EncodedTask

logger = logging.getLogger(__name__)

EXPERIMENT = "sweep"
PROCESS_FAILURES = 2
"""Times that a trial whose process fails is started again; failures of the trial itself are not repeated."""
CHECKPOINTS = 2


def run_sweep(
    config: SweepConfig,
    task: EncodedTask,
    run: RunFolder,
    *,
    facts: Mapping[str, Any] | None = None,
    listener: ProgressListener | None = None,
    search: Search | None = None,
) -> None:
    """Run a sweep in a new run folder, or go on with one; what is finished stays as it is.

    It runs on the cluster that this process is connected to (see `open_cluster`), or starts Ray on this machine.

    Args:
        config: the sweep; when the run goes on, as RUN/sweep.yaml holds it.
        task: its data, encoded for the base's tokenizer.
        run: its folder; in a cluster, on a file system that all nodes share.
        facts: what run.json holds beside the sweep's own part: the model's and the data's hashes, the commit.
        listener: told of the progress.
        search: what to train in place of what the sweep's own search would find.

    Raises:
        RunFolderError: another process runs this sweep.
        LoraSweepError: the sweep cannot start, e.g. because the base does not load. Failed trials are records.
        KeyboardInterrupt: it was interrupted; run.json says so, and calling it again goes on.
    """
    listener = listener or Silence()
    with open_cluster(config) as placements, hold(run):
        if not run.sweep_file.exists():
            run.sweep_file.write_text(config.to_yaml(), encoding="utf-8")
        log = RunLog(config, run, facts or {})
        with _status(log):
            search = search or build_search(config, len(task.splits["train"]))
            log.plan(search.trials, search.notes)
            log.write("running")
            for note in search.notes:
                listener.note(note)
            with _pool(config, task, run, placements, search.trials, log, listener) as pool:
                listener.planned(search.trials)
                _train(config, run, pool, search, listener)
                _measure(config, task, run, pool, listener)


@contextmanager
def _status(log: RunLog) -> Iterator[None]:
    """Write how the sweep ended, whatever happens."""
    try:
        yield
    except KeyboardInterrupt:
        log.write("interrupted")
        raise
    except BaseException as error:
        log.write("failed", f"{type(error).__name__}: {error}")
        raise
    log.write("complete")


@contextmanager
def _pool(
    config: SweepConfig,
    task: EncodedTask,
    run: RunFolder,
    placements: Sequence[Placement],
    trials: int,
    log: RunLog,
    listener: ProgressListener,
) -> Iterator[Pool]:
    slots = choose_slots(placements, config.resources.slots, trials)
    listener.stage(f"starting {len(placements)} engine{'s' if len(placements) > 1 else ''} with {slots} slots")
    pool = start_pool(config, task, run, placements, slots)
    try:
        log.engines(pool.infos())
        log.write("running")
        yield pool
        log.engines(pool.infos())
    finally:
        pool.stop()


def _train(config: SweepConfig, run: RunFolder, pool: Pool, search: Search, listener: ProgressListener) -> None:
    """All trials, to their ends."""
    listener.stage("training")
    finished = {record.trial_id: record.model_dump_json() for record in run.records() if record.status != "failed"}
    parameters: dict[str, Any] = {"broker": pool.broker, "metric": config.metric.name, "finished": finished}
    trainable = tune.with_resources(tune.with_parameters(SweepTrial, **parameters), {"cpu": TRIAL_CPUS})
    keeper = RecordKeeper(run, pool.broker, listener)
    folder = run.path.resolve() / "tune"
    if _can_restore(folder / EXPERIMENT):
        # the keeper, searcher and scheduler come out of Tune's own pickle (see RecordKeeper)
        tuner = tune.Tuner.restore(
            str(folder / EXPERIMENT), trainable=trainable, resume_unfinished=True, resume_errored=True
        )
    else:
        tuner = _new_tuner(config, pool, search, trainable, keeper, folder)
    tuner.fit()


def _can_restore(experiment: Path) -> bool:
    return tune.Tuner.can_restore(str(experiment)) and any(experiment.glob("experiment_state-*.json"))


def _new_tuner(
    config: SweepConfig, pool: Pool, search: Search, trainable: Any, keeper: RecordKeeper, folder: Path
) -> tune.Tuner:
    return tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=search.searcher,
            scheduler=build_scheduler(config, search.evaluations),
            num_samples=search.trials,
            max_concurrent_trials=len(pool.engines) * pool.slots,
            reuse_actors=True,
            trial_name_creator=_trial_name,
            trial_dirname_creator=_trial_name,
        ),
        run_config=tune.RunConfig(
            name=EXPERIMENT,
            storage_path=str(folder),
            callbacks=[keeper],
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=PROCESS_FAILURES),
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1, num_to_keep=CHECKPOINTS),
        ),
    )


def _trial_name(trial: Any) -> str:
    return str(trial.config["trial_id"])


def _measure(config: SweepConfig, task: EncodedTask, run: RunFolder, pool: Pool, listener: ProgressListener) -> None:
    """What is measured after training, on one engine."""
    pool.drain()
    engine = RemoteEngine(pool.any_engine())
    if run.analysis("baselines") is None:
        listener.stage("baselines")
        measure_baselines(config, task, run, engine, pool.slots)
    listener.stage("scoring finalists on test")
    score_finalists(config, task, run, engine)
