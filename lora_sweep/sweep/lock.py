"""One driver a run: a lock on RUN/tune/.lock, which the system releases when the driver ends, however it ends."""

from __future__ import annotations

import errno
import fcntl
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from lora_sweep.errors import RunFolderError
from lora_sweep.store import RunFolder

logger = logging.getLogger(__name__)


@contextmanager
def hold(run: RunFolder) -> Iterator[None]:
    """Keep every other driver from the run.

    Raises:
        RunFolderError: another one has it.
    """
    file = run.path / "tune" / ".lock"
    file.parent.mkdir(exist_ok=True)
    with file.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                fix = "Wait for that process, or end it."
                raise RunFolderError(str(run.path), "must not be run by another process", None, fix) from None
            logger.warning("%s cannot be locked (%s): do not run it twice at once", run.path, error.strerror)
        yield
