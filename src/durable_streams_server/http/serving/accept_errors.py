"""Limits the log messages about connections that the system fails to accept."""

import time
from collections.abc import Callable
from typing import Any

from ...log import log as _log
from ..limits.log_rate import LogRate


class AcceptErrors:
    """An exception handler for an event loop that logs failed accepts at most once a minute.

    asyncio's own loop reports such a failure thousands of times a second, and uvloop closes the connection without a message.
    Everything else that the loop reports goes to the loop's default handler.

    Args:
        clock: returns monotonic time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = LogRate(clock)

    def __call__(self, loop: Any, context: dict[str, Any]) -> None:
        """Handles an error that an event loop reports."""
        if "socket.accept() out of system resource" not in context.get("message", ""):
            loop.default_exception_handler(context)
        else:
            self.log(context.get("exception"))

    def log(self, error: object) -> None:
        """Logs the reason why no connection is accepted, unless the last message is less than a minute old."""
        if self._rate.count():
            _log.warning("new connections wait: %s", error)
