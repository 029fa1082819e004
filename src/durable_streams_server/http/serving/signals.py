"""Handles the signals that stop a server process or make it reload its files.

`StartSignals` handles them while the process opens its store, and `Signals` from then on. The handlers stay installed until the process has
closed its store, so that a second signal ends the process at any time.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, Final, NoReturn, Self

from uvicorn.server import HANDLED_SIGNALS

#: SIGHUP, on platforms that have it.
_HANGUP: Final[int | None] = getattr(signal, "SIGHUP", None)
#: If a signal ends the process at once, the exit code is this number plus the signal's number, as shells do it.
_SIGNALLED: Final = 128
#: Seconds in which the same signal counts once. Programs such as `timeout` send a signal to their child and to its group, so it arrives twice.
_ECHO: Final = 0.05
_SECOND: Final = b"durable-streams-server: a second signal ends the server at once\n"
_IN_START: Final = b"durable-streams-server: a signal ends the start of the server\n"


class Signals:
    """A context manager that handles signals inside its block. It may be entered again inside the block, which changes nothing.

    Outside the main thread it does nothing, because Python handles signals in the main thread only.

    Args:
        on_stop: called with the number of the first signal that stops the server. It is called in a signal handler, between any two
            lines of Python, and must not raise.
        on_hangup: called at each SIGHUP, in the same way.
        clock: returns monotonic time in seconds.
    """

    def __init__(
        self,
        on_stop: Callable[[int], None],
        on_hangup: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._on_stop = on_stop
        self._on_hangup = on_hangup
        self._clock = clock
        self._first: tuple[int, float] | None = None  # the first signal to stop, and its time
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
        now = self._clock()
        if self._first is None:
            self._first = number, now
            self._on_stop(number)
        elif number != self._first[0] or now - self._first[1] >= _ECHO:
            exit_at_once(number, _SECOND)

    def _hang_up(self, *_: object) -> None:
        self._on_hangup()


class StartSignals(Signals):
    """A context manager that handles signals while a server starts, which may take long if it has much to replay.

    A signal to stop ends the process at once. Without a handler, process 1 of a container would ignore the signal. A SIGHUP asks for a reload, so it
    must not end the process, unless the terminal is gone in which the process was started.

    Attributes:
        has_hung_up: whether there was a SIGHUP. Files that the process has read before may have changed.
    """

    def __init__(self) -> None:
        super().__init__(self._end_start, self._remember)
        self.has_hung_up = False
        self._has_terminal = has_terminal()

    def _end_start(self, number: int) -> None:
        exit_at_once(number, _IN_START)

    def _remember(self) -> None:
        if _HANGUP is not None and self._has_terminal and not has_terminal():
            exit_at_once(_HANGUP, _IN_START)
        self.has_hung_up = True


def has_terminal() -> bool:
    """Returns whether the process's standard input is a terminal."""
    try:
        return os.isatty(0)
    except OSError:
        return False


def exit_at_once(number: int, last_words: bytes) -> NoReturn:
    """Ends the process without any clean-up. Nothing acknowledged is lost, because a write is durable before it is acknowledged.

    Args:
        number: the number of the signal that asked for it.
        last_words: a line for standard error.
    """
    try:
        if select.select([], [2], [], 0)[1]:  # a full pipe must not block the exit
            os.write(2, last_words)
    except (OSError, ValueError):
        pass  # standard error is closed
    os._exit(_SIGNALLED + number)
