"""Detects the signal that makes a host server stop, so that an application can end its live reads.

A host server tells an application about a stop only after all responses have ended, and tells a mounted application nothing at all. Event
streams do not end by themselves, so the host would wait for ever. Therefore the first live read installs signal handlers in front of the
host's. They make the live reads end, and then call the host's handlers. Signals that the host does not handle are left alone. Outside the
main thread nothing is installed, because Python handles signals in the main thread only.

hypercorn sends no signal to its worker processes. It sets an event that is shared between processes, and this module polls that event.
Twisted, and daphne with it, cancels all running requests when it stops, so its signal handlers are left alone.
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

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)  # the signals on which servers stop
#: The signals on which gunicorn's workers stop. Other programs use SIGQUIT to print their stacks, and continue.
_GUNICORN_SIGNALS: Final = (*_SIGNALS, getattr(signal, "SIGQUIT", signal.SIGTERM))
_POLL_INTERVAL: Final = 0.2  # seconds between two checks of hypercorn's event


class StopSignals:
    """Watches the stop signals for one application.

    The application calls `watch` whenever a live read begins, and `forget` when it has stopped.

    Args:
        stop: called on the event loop after a signal.
    """

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop = stop
        self._loop: asyncio.AbstractEventLoop | None = None
        self._event: Any = None  # set by hypercorn, which sends no signal
        self._timer: asyncio.TimerHandle | None = None

    def watch(self) -> None:
        """Installs signal handlers in front of the current ones. If they are installed already, a call takes about a microsecond."""
        if threading.current_thread() is not threading.main_thread():
            return
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop = loop
            self._event = _host_event()
            if self._event is not None:
                self._poll()
        _watching.add(self)
        numbers = _GUNICORN_SIGNALS if "gunicorn.arbiter" in sys.modules else _SIGNALS
        for number in numbers:
            handler = signal.getsignal(number)
            if handler is not _handle_signal and _stops_a_server(handler):
                _host_handlers[number] = handler
                signal.signal(number, _handle_signal)

    def forget(self) -> None:
        """Stops watching. If no other application is watching, restores the host's signal handlers."""
        _watching.discard(self)
        self._loop = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if _watching or threading.current_thread() is not threading.main_thread():
            return
        for number, handler in tuple(_host_handlers.items()):
            if signal.getsignal(number) is _handle_signal:
                signal.signal(number, handler)
        _host_handlers.clear()

    def notify(self) -> None:
        """Schedules the application's stop on its event loop."""
        if self._loop is not None:
            with contextlib.suppress(
                RuntimeError
            ):  # the loop is closed, so the application has stopped
                self._loop.call_soon_threadsafe(self._stop)

    def _poll(self) -> None:
        """Stops the application if the host's event is set, and otherwise schedules the next check."""
        assert self._loop is not None
        if self._event.is_set():
            self._timer = None
            self._stop()
        else:
            self._timer = self._loop.call_later(_POLL_INTERVAL, self._poll)


_watching: Final[weakref.WeakSet[StopSignals]] = weakref.WeakSet()
_host_handlers: Final[dict[int, Any]] = {}  # by signal number


def _stops_a_server(handler: Any) -> bool:
    """Returns whether a signal handler belongs to a host server that waits for live reads to end.

    The handler that `asyncio.run` installs does not count, because it only interrupts its own program.
    """
    if not callable(handler) or handler is signal.default_int_handler:
        return False
    owner = getattr(getattr(handler, "func", handler), "__self__", None)
    return not isinstance(owner, asyncio.Runner) and not _is_twisted(owner)


def _is_twisted(owner: object) -> bool:
    """Returns whether an object belongs to Twisted."""
    return type(owner).__module__.startswith("twisted.")


def _host_event() -> Any:
    """Returns the event that hypercorn sets to stop this worker process, or None if there is none.

    hypercorn passes the event as an argument of the worker process (`hypercorn.run`). If it cannot be found, the worker ends after
    hypercorn's `--graceful-timeout`.
    """
    given = getattr(multiprocessing.current_process(), "_kwargs", {})
    event = given.get("shutdown_event")
    return event if hasattr(event, "is_set") else None


def _handle_signal(number: int, frame: FrameType | None) -> None:
    """Notifies the applications, and then calls the host's handler."""
    for each in tuple(_watching):
        each.notify()
    handler = _host_handlers.get(number)
    if handler is not None:
        handler(number, frame)
