"""Ends a worker of a host server if another worker has locked the data directory.

A host server with several workers starts a process for each, and one of them locks the directory. Each other worker logs one line and
exits with code 3. uvicorn, gunicorn, hypercorn and granian do not restart such a worker. After any other exception, uvicorn would
restart the worker forever, with a traceback each time.
"""

import multiprocessing
import sys
import time
from typing import Final

from ...log import log as _log
from .directory import DirectoryInUse

#: The exit code for a failed start in uvicorn and gunicorn.
_STARTUP_FAILED: Final = 3
#: Seconds before the worker exits. The host then stops the other workers, and workers of granian miss that signal while they start.
_PAUSE: Final = 1.0


class WorkerRefused(DirectoryInUse, SystemExit):
    """Another worker has locked the directory. A worker that does not catch this error exits without a traceback."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.code = _STARTUP_FAILED


def is_worker() -> bool:
    """Returns whether this process may be a worker that a host server has started."""
    return multiprocessing.parent_process() is not None or "gunicorn.arbiter" in sys.modules


def refusal_of(refusal: DirectoryInUse) -> DirectoryInUse:
    """Returns the error to raise when the directory is in use.

    In a worker, logs the error, waits for a second, and returns a WorkerRefused. In any other process, returns `refusal` itself.
    """
    if not is_worker():
        return refusal
    message = f"{refusal}, and one process owns a data directory: run one worker"
    _log.critical("%s", message)
    time.sleep(_PAUSE)
    return WorkerRefused(message)
