"""One synchronous call of a store, made by a thread that has to wait.

Either the store's event loop makes the call and passes the result to the waiting thread, or the waiting thread makes the call itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

from ..storage.ticket import Ticket
from .tickets import result_of

T = TypeVar("T")


class WaitingCall(Generic[T]):
    """A call whose thread waits for the result, or for its turn to make the call itself.

    Attributes:
        function: the function to call.
        thread: the identifier of the waiting thread.
        awake: an event that is set when the thread has to check this object.
        is_done: whether the call has ended, so that `result` may be called.
        has_turn: whether the waiting thread must make the call itself, now.
        stopped_checks: number of checks in a row that found the store's event loop stopped.
    """

    __slots__ = (
        "_error",
        "_ticket",
        "_value",
        "awake",
        "function",
        "has_turn",
        "is_done",
        "stopped_checks",
        "thread",
    )

    def __init__(self, function: Callable[[], Ticket[T]]) -> None:
        self.function = function
        self.thread = threading.get_ident()
        self.awake = threading.Event()
        self.is_done = False
        self.has_turn = False
        self.stopped_checks = 0
        self._ticket: Ticket[T] | None = None
        self._value: T | None = None
        self._error: BaseException | None = None

    def give_turn(self) -> None:
        """Tells the waiting thread to make the call itself."""
        self.has_turn = True
        self.awake.set()

    def start(self, on_end: Callable[[WaitingCall[T]], None]) -> None:
        """Makes the call on the store's event loop.

        Args:
            on_end: called with this object when the call has ended, before the waiting thread is woken.
        """

        def finish(ticket: Ticket[T]) -> None:
            on_end(self)
            try:
                self._value = result_of(ticket)
            except BaseException as error:
                self._error = error
            self._end()

        try:
            self._ticket = self.function()
        except BaseException as error:  # the waiting thread must be woken, whatever the error is
            on_end(self)
            self.fail(error)
            if not isinstance(error, Exception):
                raise
        else:
            self._ticket.add_callback(finish)

    def settle(self, settle: Callable[[Ticket[Any]], None]) -> None:
        """Calls `settle` with the ticket of the call, if the call has been started."""
        if self._ticket is not None:
            settle(self._ticket)

    def fail(self, error: BaseException) -> None:
        """Ends the call with an error, unless it has already ended."""
        if not self.is_done:
            self._error = error
            self._end()

    def result(self) -> T:
        """Returns what the function returned, or raises the error that ended the call."""
        if self._error is not None:
            raise self._error
        return cast(T, self._value)

    def _end(self) -> None:
        self.is_done = True
        self.awake.set()
