"""Has an application hear of the signal that its host server stops on.

A host tells an application of a stop only after all responses have ended, and one that is mounted not at all. Event streams do not
end by themselves, so nobody would ever stop. So the first live read puts a handler before those that the host has installed: it has
the live reads end, and then calls the host's handler. A signal that nobody handles is left alone, and so is everything outside the
main thread, where Python handles signals.

hypercorn sends its worker processes no signal. It sets an event that they share with their parent, so there the event is looked at.
Twisted, and daphne on it, cancels whatever runs and waits for that alone, which is all that live reads need.

    signals = StopSignals(app.begin_shutdown)
    signals.watch()      whenever a live read begins, on the loop
    signals.forget()     when the application has stopped
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import signal
import sys
import threading
import weakref
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)  # what servers stop on
#: gunicorn's workers stop on SIGQUIT too. With it, other programs show what they are doing, and go on.
_GUNICORN_SIGNALS: Final = (*_SIGNALS, getattr(signal, "SIGQUIT", signal.SIGTERM))
_EVERY: Final = 0.2  # seconds between two looks at a host's event, while there are live reads


class StopSignals:
    """One application's watch.

    Args:
        stop: called on the loop when a signal has come.
    """

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop = stop
        self._loop: asyncio.AbstractEventLoop | None = None
        self._event: Any = None  # of a host that sends no signal
        self._timer: asyncio.TimerHandle | None = None

    def watch(self) -> None:
        """Watches from now on, in front of whoever handles the signals now. It costs about a microsecond."""
        if threading.current_thread() is not threading.main_thread():
            return
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop = loop
            self._event = _event_of_host()
            if self._event is not None:
                self._look()
        _watching.add(self)
        numbers = _GUNICORN_SIGNALS if "gunicorn.arbiter" in sys.modules else _SIGNALS
        for number in numbers:
            handler = signal.getsignal(number)
            if handler is not _caught and _stops_a_server(handler):
                _hosts[number] = handler
                signal.signal(number, _caught)

    def forget(self) -> None:
        """Watches no longer. The last to do so gives the signals back to the host."""
        _watching.discard(self)
        self._loop = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if _watching or threading.current_thread() is not threading.main_thread():
            return
        for number, handler in tuple(_hosts.items()):
            if signal.getsignal(number) is _caught:
                signal.signal(number, handler)
        _hosts.clear()

    def tell(self) -> None:
        """Has the application stop."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody is there
                self._loop.call_soon_threadsafe(self._stop)

    def _look(self) -> None:
        """Looks whether the host's event is set, and again in a while."""
        assert self._loop is not None
        if self._event.is_set():
            self._timer = None
            self._stop()
        else:
            self._timer = self._loop.call_later(_EVERY, self._look)


_watching: Final[weakref.WeakSet[StopSignals]] = weakref.WeakSet()
_hosts: Final[dict[int, Any]] = {}  # the host's own handlers


def _stops_a_server(handler: Any) -> bool:
    """Whether a handler is a host's that must be put off. `asyncio.run` has one too, which only interrupts its program."""
    if not callable(handler) or handler is signal.default_int_handler:
        return False
    owner = getattr(getattr(handler, "func", handler), "__self__", None)
    return not isinstance(owner, asyncio.Runner) and not _is_twisted(owner)


def _is_twisted(owner: object) -> bool:
    return type(owner).__module__.startswith("twisted.")


def _event_of_host() -> Any:
    """Returns the event that a worker's parent sets when it is to stop, or None if there is none.

    It is an argument of the worker's process (`hypercorn.run`). Where it cannot be had, the worker ends after hypercorn's
    `--graceful-timeout`.
    """
    given = getattr(multiprocessing.current_process(), "_kwargs", {})
    event = given.get("shutdown_event")
    return event if hasattr(event, "is_set") else None


def _caught(number: int, frame: FrameType | None) -> None:
    """Tells the applications first, and then the host."""
    for each in tuple(_watching):
        each.tell()
    handler = _hosts.get(number)
    if handler is not None:
        handler(number, frame)
