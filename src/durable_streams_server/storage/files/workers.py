"""Ends a worker of a host server whose data directory another worker has.

A host server with several workers starts a process for each, and one of them gets the directory. Each other worker logs one line and
exits with code 3. uvicorn, gunicorn, hypercorn and granian do not start such a worker again. After any other exception uvicorn would
start it again and again, with a traceback each time.
"""

import multiprocessing
import sys
import time
from typing import Final

from ...log import log as _log
from .directory import DirectoryInUse

_STARTUP_FAILED: Final = 3  # for uvicorn, and for gunicorn
#: Seconds until the worker ends. Its host then stops the others, and granian's miss that while they are just starting.
_PAUSE: Final = 1.0


class WorkerRefused(DirectoryInUse, SystemExit):
    """A directory is in use, and this process is a worker: one that does not catch this ends, without a traceback."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.code = _STARTUP_FAILED


def is_worker() -> bool:
    """Whether this process is one of those that a host server has started to answer requests, or might be."""
    return multiprocessing.parent_process() is not None or "gunicorn.arbiter" in sys.modules


def refusal_of(refusal: DirectoryInUse) -> DirectoryInUse:
    """Returns what is raised instead where this process is a worker, and says it in the log."""
    if not is_worker():
        return refusal
    message = f"{refusal}, and one process owns a data directory: run one worker"
    _log.critical("%s", message)
    time.sleep(_PAUSE)
    return WorkerRefused(message)
