"""Handles the signals that stop a server process or make it reload its files.

The handlers stay installed until the process has closed its store, so that a second signal ends the process at any time.
"""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Final, NoReturn, Self

from uvicorn.server import HANDLED_SIGNALS

#: SIGHUP, on platforms that have it.
_HANGUP: Final[int | None] = getattr(signal, "SIGHUP", None)
#: The exit code after a second signal is this number plus that of the signal, as shells report a process that a signal has ended.
_SIGNALLED: Final = 128
_LAST_WORDS: Final = b"durable-streams-server: a second signal ends the server at once\n"


class Signals:
    """A context manager that handles signals inside its block. It may be entered again inside the block, which changes nothing.

    Outside the main thread it does nothing, because Python handles signals in the main thread only.

    Args:
        on_stop: called with the number of the first signal that stops the server. It is called in a signal handler, between any two
            lines of Python, and must not raise.
        on_hangup: called at each SIGHUP, in the same way.
    """

    def __init__(self, on_stop: Callable[[int], None], on_hangup: Callable[[], None]) -> None:
        self._on_stop = on_stop
        self._on_hangup = on_hangup
        self._has_stopped = False
        self._depth = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._depth += 1
        if self._depth == 1 and threading.current_thread() is threading.main_thread():
            for number in HANDLED_SIGNALS:
                self._before[number] = signal.signal(number, self._stop)
            if _HANGUP is not None:
                self._before[_HANGUP] = signal.signal(_HANGUP, self._hang_up)
        return self

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if not self._depth:
            for number, handler in self._before.items():
                signal.signal(number, handler)
            self._before.clear()

    def _stop(self, number: int, _: FrameType | None) -> None:
        if self._has_stopped:
            exit_at_once(number)
        self._has_stopped = True
        self._on_stop(number)

    def _hang_up(self, *_: object) -> None:
        self._on_hangup()


def exit_at_once(number: int) -> NoReturn:
    """Ends the process without any clean-up. Nothing acknowledged is lost, because a write is durable before it is acknowledged.

    Args:
        number: the number of the signal that asked for it.
    """
    try:
        if select.select([], [2], [], 0)[1]:  # a full pipe must not block the exit
            os.write(2, _LAST_WORDS)
    except (OSError, ValueError):
        pass  # standard error is closed
    os._exit(_SIGNALLED + number)
