"""A sweep from start to end: the cluster, the engines, the search, the finalists' new seeds, the baselines, the test.

A sweep that was interrupted or killed goes on when `run_sweep` is called again: Tune's snapshot (written about every
second) brings back its trials, the searcher, and through the trials' last results ASHA's rungs. A trial whose record is
in trials.jsonl as complete or stopped reports that record again and never trains twice; a trial that was cut off goes
on from its last evaluation. A trial's result does not depend on the interruption; which configurations TPE suggests and
whom ASHA stops depends on the order in which trials report, as in every asynchronous search. Finalists are chosen once
and written down, so that their new seeds are the same after an interruption.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from ray.tune.schedulers import FIFOScheduler

from lora_sweep.engine.api import EngineInfo
from lora_sweep.store import RunFolder
from lora_sweep.sweep.baselines import RemoteEngine, measure_baselines
from lora_sweep.sweep.candidates import list_candidates
from lora_sweep.sweep.cluster import ray_cluster
from lora_sweep.sweep.engines import Engines, start_engines
from lora_sweep.sweep.finalists import finalists, list_repeats, score_finalists
from lora_sweep.sweep.layout import choose_slots
from lora_sweep.sweep.lock import hold
from lora_sweep.sweep.order import Order
from lora_sweep.sweep.pool import Pool
from lora_sweep.sweep.progress import ProgressListener, Silence
from lora_sweep.sweep.runlog import RunLog
from lora_sweep.sweep.schedule import build_scheduler
from lora_sweep.sweep.search import ListSearch, Search, build_search
from lora_sweep.sweep.tuning import train

if TYPE_CHECKING:
    from lora_sweep.config import SweepConfig
    from lora_sweep.tasks import EncodedTask

logger = logging.getLogger(__name__)


def run_sweep(
    config: SweepConfig,
    task: EncodedTask,
    run: RunFolder,
    *,
    facts: Mapping[str, Any] | None = None,
    listener: ProgressListener | None = None,
    search: Search | None = None,
    engines: Engines | None = None,
) -> None:
    """Run a sweep in a new run folder, or go on with one; what is finished stays as it is.

    It runs on the cluster that this process is connected to, or starts Ray on this machine.

    Args:
        config: the sweep; when the run goes on, as RUN/sweep.yaml holds it.
        task: its data, encoded for the base's tokenizer.
        run: its folder; in a cluster, on a file system that all nodes share.
        facts: what run.json holds beside the sweep's own part: the model's and the data's hashes, the commit.
        listener: told of the progress.
        search: what to train in place of what the sweep's own search would find.
        engines: those that were started for it already; they end with the sweep.

    Raises:
        RunFolderError: another process runs this sweep.
        LoraSweepError: the sweep cannot start, e.g. because the base does not load. Failed trials are records.
        KeyboardInterrupt: it was interrupted; run.json says so, and calling it again goes on.
    """
    listener = listener or Silence()
    with _engines(config, run, engines) as engines, hold(run):
        if not run.sweep_file.exists():
            run.sweep_file.write_text(config.to_yaml(), encoding="utf-8")
        log = RunLog(config, run, facts or {})
        with _status(log):
            search = search or build_search(config, len(task.splits["train"]))
            log.plan(search.trials, search.notes)
            log.write("running")
            for note in search.notes:
                listener.note(note)
            # new seeds may be more than the search had trials
            most = max(search.trials, min(config.finalists.top, search.trials) * config.finalists.seeds)
            with _pool(config, task, run, engines, most, log, listener) as pool:
                listener.planned(log.planned)
                _search(config, run, pool, search, listener)
                _repeat(config, run, pool, log, listener)
                _measure(config, task, run, pool, listener)


@contextmanager
def _engines(config: SweepConfig, run: RunFolder, started: Engines | None) -> Iterator[Engines]:
    """Those that are there, or new ones; they end with the block."""
    with ExitStack() as stack:
        if started is None:
            stack.enter_context(ray_cluster(None))
        engines = started or start_engines(config, run.path)
        stack.callback(engines.stop)
        yield engines


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
    engines: Engines,
    trials: int,
    log: RunLog,
    listener: ProgressListener,
) -> Iterator[Pool]:
    train = task.splits["train"]
    candidates = [candidate.config for candidate in list_candidates(config, len(train))]
    tokens = float(train.lengths.mean()) * min(trial.batch_size * trial.accumulate for trial in candidates)
    slots = choose_slots(engines.placements, config.resources.slots, trials, tokens)
    number = len(engines.handles)
    listener.stage(f"starting {number} engine{'s' if number > 1 else ''} with {slots} slots")
    warm_up = min(candidates, key=lambda trial: (trial.batch_size, trial.rank))  # one that memory has room for

    def on_standing(infos: list[EngineInfo]) -> None:
        log.engines(infos)
        log.write("running")

    pool = Pool(engines, Order(config, task, slots, str(run.path.resolve()), warm_up), on_standing)
    try:
        yield pool
        log.engines(pool.infos())
    finally:
        pool.stop()


def _search(config: SweepConfig, run: RunFolder, pool: Pool, search: Search, listener: ProgressListener) -> None:
    """All trials of the search, to their ends."""
    if _all_ended(run, search.trials, repeats=False):
        return
    listener.stage("training")
    scheduler = build_scheduler(config, search.evaluations)
    train(
        "sweep", search.searcher, search.trials, scheduler,
        metric=config.metric.name, run=run, pool=pool, listener=listener,
    )  # fmt: skip


def _repeat(config: SweepConfig, run: RunFolder, pool: Pool, log: RunLog, listener: ProgressListener) -> None:
    """The finalists' configurations with new seeds, to the full budget."""
    repeats = list_repeats(config, finalists(config, run))
    if not repeats:
        return
    log.plan_repeats(len(repeats))
    log.write("running")
    listener.stage(f"training {config.finalists.seeds} new seeds of each finalist")
    listener.planned(log.planned)
    if _all_ended(run, len(repeats), repeats=True):
        return
    train(
        "finalists", ListSearch(repeats), len(repeats), FIFOScheduler(),
        metric=config.metric.name, run=run, pool=pool, listener=listener,
    )  # fmt: skip


def _all_ended(run: RunFolder, trials: int, repeats: bool) -> bool:
    """Whether that many trials are complete or stopped, so that there is nothing to go on with."""
    ended = [record for record in run.records() if record.status != "failed"]
    return sum((record.repeat_of is not None) == repeats for record in ended) >= trials


def _measure(config: SweepConfig, task: EncodedTask, run: RunFolder, pool: Pool, listener: ProgressListener) -> None:
    """What is measured after training, on one engine."""
    listener.stage("waiting for an engine")
    pool.wait()
    pool.drain()
    engine = RemoteEngine(pool.any_engine())
    if run.analysis("baselines") is None:
        listener.stage("baselines")
        measure_baselines(config, task, run, engine, pool.slots)
    listener.stage("scoring finalists on test")
    score_finalists(config, task, run, engine)
