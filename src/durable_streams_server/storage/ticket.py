"""Tickets: each is a promise of one outcome, resolved once, on the event loop that owns the store.

A ticket is a future without an event loop, a task or a thread. Its callbacks run as soon as the ticket is done, in the order in which they
were added.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from ..log import log as _log

T = TypeVar("T")
U = TypeVar("U")


class Cancelled(Exception):
    """Raised by a ticket that was cancelled."""


class Abandoned(Exception):
    """Raised by a ticket if the store stopped before the outcome was durable. Nobody can know the outcome, so the request gets no answer.

    Attributes:
        cause: the error that stopped the store.
    """

    def __init__(self, cause: BaseException) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Ticket(Generic[T]):
    """The promise of one value of type `T`, or of one exception."""

    __slots__ = ("_callbacks", "_error", "_on_cancel", "_value", "done")

    def __init__(
        self, done: bool = False, value: T | None = None, error: BaseException | None = None
    ) -> None:
        self.done = done
        self._value = value
        self._error = error
        self._callbacks: list[Callable[[Ticket[T]], None]] | None = None
        self._on_cancel: Callable[[], None] | None = None

    @classmethod
    def of(cls, value: T) -> Ticket[T]:
        """Returns a ticket that is already resolved."""
        return cls(True, value)

    @classmethod
    def failed(cls, error: BaseException) -> Ticket[T]:
        """Returns a ticket that has already failed."""
        return cls(True, None, error)

    def resolve(self, value: T) -> None:
        """Resolves the ticket with a value. Does nothing if the ticket is already done, for example cancelled."""
        if not self.done:
            self._value = value
            self._finish()

    def fail(self, error: BaseException) -> None:
        """Fails the ticket with an error. Does nothing if the ticket is already done."""
        if not self.done:
            self._error = error
            self._finish()

    def result(self) -> T:
        """Returns the value, or raises the error.

        Raises:
            RuntimeError: the ticket is not done yet.
        """
        if not self.done:
            raise RuntimeError("the ticket is not done")
        if self._error is not None:
            try:
                raise self._error
            finally:
                del self  # otherwise the error's traceback and the ticket would refer to each other
        return self._value  # type: ignore[return-value]  # `cast` would cost one more call for each answer

    def add_callback(self, callback: Callable[[Ticket[T]], None]) -> None:
        """Calls `callback` with this ticket once the ticket is done, or immediately if it already is.

        An exception of a callback that runs later is logged and not raised, because the caller that resolves this ticket has other tickets
        to resolve.
        """
        if self.done:
            callback(self)
        elif self._callbacks is None:
            self._callbacks = [callback]
        else:
            self._callbacks.append(callback)

    def on_cancel(self, undo: Callable[[], None]) -> None:
        """Sets the function that `cancel` calls to release the resources of the wait."""
        self._on_cancel = undo

    def cancel(self) -> None:
        """Fails the ticket with Cancelled. This ends the wait only; the decision behind the ticket is not undone."""
        if self.done:
            return
        undo, self._on_cancel = self._on_cancel, None
        self._error = Cancelled()
        self._finish()
        if undo is not None:
            undo()

    def then(self, function: Callable[[T], Ticket[U]]) -> Ticket[U]:
        """Calls `function` with the value once it is known, and returns a ticket for the result. Errors are passed on to the returned ticket."""
        if self.done:
            if self._error is not None:
                return Ticket.failed(self._error)
            try:
                return function(self._value)  # type: ignore[arg-type]  # as in `result`
            except Exception as error:
                return Ticket.failed(error)
        chained: Ticket[U] = Ticket()
        chained.on_cancel(self.cancel)

        def proceed(first: Ticket[T]) -> None:
            if chained.done:
                return
            following: Ticket[U] = first.then(function)
            chained.on_cancel(following.cancel)
            following.add_callback(chained._copy)

        self.add_callback(proceed)
        return chained

    def _copy(self, other: Ticket[T]) -> None:
        if self.done:
            return
        self._value, self._error = other._value, other._error
        self._finish()

    def _finish(self) -> None:
        self.done = True
        self._on_cancel = None
        callbacks, self._callbacks = self._callbacks, None
        for callback in callbacks or ():
            try:
                callback(self)
            except Exception:
                _log.exception("a callback of a ticket failed")


def repeat(step: Callable[[], Ticket[T | None]]) -> Ticket[T]:
    """Runs steps one after the other until one returns a value, and returns a ticket for that value.

    A chain of `then` that extends itself would recurse once for each link. `repeat` loops instead while the steps' tickets are done at once,
    and continues from a callback when a ticket is not done yet.

    Args:
        step: begins the next step. Its ticket resolves with None if another step must follow.
    """
    result: Ticket[T] = Ticket()

    def proceed(last: Ticket[T | None] | None) -> None:
        try:
            while not result.done:
                if last is None:
                    last = step()
                if not last.done:
                    result.on_cancel(last.cancel)
                    last.add_callback(proceed)
                    return
                value = last.result()
                if value is not None:
                    result.resolve(value)
                last = None
        except Exception as error:
            result.fail(error)

    proceed(None)
    return result
