"""A ticket: the promise of one outcome, resolved once, on the loop that owns the store.

It is a future without a loop, a task or a thread: callbacks run at once, in the order in which they were added.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from ..log import log as _log

T = TypeVar("T")
U = TypeVar("U")


class Cancelled(Exception):
    """The one who held the ticket no longer waits."""


class Abandoned(Exception):
    """Nobody can know the outcome: the store stopped before it was durable. There is no answer to give.

    Attributes:
        cause: what stopped the store.
    """

    def __init__(self, cause: BaseException) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Ticket(Generic[T]):
    """The promise of one `T` or one exception."""

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
        """Fulfils the promise. A ticket that was cancelled meanwhile stays cancelled."""
        if not self.done:
            self._value = value
            self._finish()

    def fail(self, error: BaseException) -> None:
        """Breaks the promise with `error`."""
        if not self.done:
            self._error = error
            self._finish()

    def result(self) -> T:
        """Returns the value, or raises the error.

        Raises:
            RuntimeError: the ticket is not done, so nobody can know the outcome.
        """
        if not self.done:
            raise RuntimeError("the ticket is not done")
        if self._error is not None:
            try:
                raise self._error
            finally:
                del self  # or the error's traceback would hold the ticket that holds the error
        return self._value  # type: ignore[return-value]  # `cast` would be one more call for each answer

    def add_callback(self, callback: Callable[[Ticket[T]], None]) -> None:
        """Calls `callback` with this ticket once it is done, or immediately if it already is.

        An exception of a callback that is called later is logged and goes no further: whoever resolves a ticket resolves others
        too.
        """
        if self.done:
            callback(self)
        elif self._callbacks is None:
            self._callbacks = [callback]
        else:
            self._callbacks.append(callback)

    def on_cancel(self, undo: Callable[[], None]) -> None:
        """Sets what gives back the resources that the wait holds."""
        self._on_cancel = undo

    def cancel(self) -> None:
        """Gives up waiting. What has been decided is not undone; only the wait ends."""
        if self.done:
            return
        undo, self._on_cancel = self._on_cancel, None
        self._error = Cancelled()
        self._finish()
        if undo is not None:
            undo()

    def then(self, function: Callable[[T], Ticket[U]]) -> Ticket[U]:
        """Returns a ticket for what `function` makes of the value. Errors pass through."""
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
    """Takes steps one after the other until one has a value, and returns a ticket for that value.

    A chain of `then` that prolongs itself recurses once for each link. This is the loop for work of any length: as long as the
    steps' tickets are done at once it iterates, and it goes on from a callback when one is not.

    Args:
        step: begins the next step; its ticket gives None if another step is to follow.
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
