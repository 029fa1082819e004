"""Helpers for tests of `Calls`, which make calls without a store."""

import threading
from collections.abc import Callable
from typing import Any

from durable_streams_server.storage.ticket import Ticket
from durable_streams_server.streams.calls import Calls
from tests.streams.threads import LoopThread, Pause


def make_calls(failure: BaseException | None = None) -> Calls:
    """Returns a `Calls` that resolves each open ticket with the identifier of the thread that settles it.

    Args:
        failure: the error that has stopped the store. With an error, open tickets are never resolved.
    """

    def settle(ticket: Ticket[Any]) -> None:
        if failure is None:
            ticket.resolve(threading.get_ident())

    return Calls(settle, lambda: failure)


def do_nothing() -> None:
    return


def thread_of_call(calls: Calls) -> int:
    """Makes a call and returns the identifier of the thread that it ran in."""
    return calls.run(lambda: Ticket.of(threading.get_ident()))


def call_that_pauses(calls: Calls, pause: Pause) -> None:
    """Makes a call that is blocked until the pause is released."""

    def function() -> Ticket[None]:
        pause()
        return Ticket.of(None)

    calls.run(function)


def attach(calls: Calls, thread: LoopThread, give_back: Callable[[], None] = do_nothing) -> None:
    """Attaches the store to an event loop that runs in another thread."""
    thread.call(lambda: calls.attach(thread.loop, do_nothing, give_back))
