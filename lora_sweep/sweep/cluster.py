"""A Ray cluster for the time of a sweep: a local one of our own, or a running one that we join."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Generic, TypeVar

import ray

from lora_sweep.errors import ConfigError

T = TypeVar("T")

LONGEST_TEMP_DIR = 40
"""Ray puts sockets about 60 characters below its folder, and a socket's path ends at 107 bytes."""
CONNECT_SECONDS = 5.0
"""Ray by itself tries a cluster that is not there for minutes."""
LEAST_STORE_BYTES = 100 * 2**20
MOST_STORE_BYTES = 2 * 2**30

RAY_SETTINGS = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # silences a warning about processes without a GPU
    "RAY_AIR_NEW_OUTPUT": "0",  # the new one prints failed trials whatever the verbosity
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # records are written by our own callback
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C must reach us
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a trial that fails by itself reports no metric
    "TUNE_GLOBAL_CHECKPOINT_S": "1",  # what a killed driver forgets
    "TUNE_MAX_PENDING_TRIALS_PG": "2",  # a herd of starting processes delays the first report
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # the reason is in the trial's record
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_WARN_THRESHOLD_S": "5",
}
"""Environment of Ray and Tune while a sweep runs; what the user has set stays."""


class ClusterBeside(Generic[T]):
    """A cluster, as of `ray_cluster`; one on this machine starts and ends while this thread does something else.

    One thread does both: the processes of a local cluster end with the thread that has started them. A running cluster
    is joined here, when it is waited for: it hears of no sweep that cannot start.

    Args:
        address: as for `ray_cluster`.
        begin: what is done once the cluster stands, on whichever thread.
    """

    def __init__(self, address: str | None, begin: Callable[[], T]) -> None:
        self._address, self._begin = address, begin
        self._joined = ExitStack()
        self._begun: Future[T] = Future()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._hold, name="cluster", daemon=True)

    def __enter__(self) -> ClusterBeside[T]:
        if self._address is None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        if self._address is None:
            self._thread.join()

    def wait(self) -> T:
        """What was begun on it, once it stands.

        Raises:
            ConfigError: as `ray_cluster`.
            Exception: whatever `begin` raises.
        """
        if self._address is None:
            return self._begun.result()
        self._joined.enter_context(ray_cluster(self._address))
        return self._begin()

    def end(self) -> None:
        """Leave a running cluster, or begin to end a local one; the end of the block waits for that."""
        self._joined.close()
        self._ending.set()

    def _hold(self) -> None:
        try:
            with ray_cluster(None):
                if self._ending.is_set():
                    self._begun.cancel()
                else:
                    self._begun.set_result(self._begin())
                self._ending.wait()
        except BaseException as error:
            if self._begun.done():
                raise
            self._begun.set_exception(error)


@contextmanager
def ray_cluster(address: str | None) -> Iterator[None]:
    """Connect to a cluster, or start one on this machine and stop it afterwards.

    Args:
        address: of a running cluster, as for `ray.init`; None starts a local one. If this process is connected to Ray
            already, that connection is used and stays.

    Raises:
        ConfigError: no cluster answers at `address`.
    """
    for name, value in RAY_SETTINGS.items():
        os.environ.setdefault(name, value)
    if ray.is_initialized():
        yield
        return
    temp_dir = None if address else _start_local()
    if address:
        _join(address)
    try:
        yield
    finally:
        ray.shutdown()
        if temp_dir is not None:
            shutil.rmtree(temp_dir, ignore_errors=True)


def _join(address: str) -> None:
    try:
        _check_listens(os.environ.get("RAY_ADDRESS", address) if address == "auto" else address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, OverflowError, RuntimeError, ValueError) as error:  # Ray raises all but the second
        ray.shutdown()
        reason = " ".join(str(error).split()).rstrip(".")
        rule = f"must be the address of a running Ray cluster ({reason})"
        raise ConfigError("--address", rule, address, "Leave it out to start Ray on this machine.") from error


def _check_listens(address: str) -> None:
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()


def _start_local() -> Path:
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch in the engines: huge pages for large tensors
    # an engine's thread comes after Ray's many: glibc would give it a heap that it can neither keep nor grow well
    os.environ.setdefault("MALLOC_ARENA_MAX", "1")
    os.environ.setdefault("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")  # the heap's pages huge, too (from 2.35 on)
    os.environ.setdefault("RAY_worker_niceness", "0")  # by default all else on the machine comes before an engine
    # ray.init would write a token into the home folder, which turns authentication on for later clusters
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    parent = tempfile.gettempdir()
    temp_dir = Path(tempfile.mkdtemp(prefix="sweep-", dir=parent if len(parent) <= LONGEST_TEMP_DIR else "/tmp"))
    ray.init(
        address="local",
        num_cpus=_cores(),
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=_store_bytes(),
        _temp_dir=str(temp_dir),
    )
    return temp_dir


def _cores() -> int:
    """Cores that this process may use; containers often show all of the machine's."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _store_bytes() -> int:
    shared = Path("/dev/shm")
    free = shutil.disk_usage(shared).free if shared.exists() else MOST_STORE_BYTES
    return max(LEAST_STORE_BYTES, min(MOST_STORE_BYTES, int(free * 0.4)))
