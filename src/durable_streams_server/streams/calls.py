"""Runs the synchronous calls of a store where the store may be called: in the calling thread, or on the event loop that owns the store.

    state      what a call does                                             state ends with
    FREE       runs in its own thread, one thread after the other           attach, close
    CHANGING   waits                                                        the end of attach, detach or close
    LOOP       runs on the loop, immediately if made in the loop's thread   detach, close, the end of the loop
    CLOSED     raises RuntimeError

Whenever the state has changed, the waiting calls are passed on. In LOOP, the loop runs them. In FREE, each call runs in its own thread. In
CLOSED, the calls are refused.

`detach` first finishes the calls that the loop has started. When `asyncio.run` ends, it detaches the store even if the program has not done
so. If a loop was closed without a detach, the next caller takes the store back. So every call ends, with a result or an error.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

from ..storage.ticket import Abandoned, Ticket
from .owner_loop import OwnerLoop
from .tickets import result_of
from .waiting_call import WaitingCall

T = TypeVar("T")

#: Seconds between two checks of the owning loop by a waiting thread. Every change of state wakes the thread, but asyncio has no
#: notification for a loop that stops, so the thread has to check.
_CHECK_INTERVAL: Final = 0.25
#: Number of checks in a row that may find the loop stopped before the call fails. A program may run a loop again after it has stopped.
_MAX_STOPPED_CHECKS: Final = 4

_STOPPED: Final = "the event loop that has the store has stopped"
_UNKNOWN: Final = f"{_STOPPED}, and nobody knows what became of this call"


class State(enum.Enum):
    """The state of a store: free, changing its owner, owned by an event loop, or closed."""

    FREE = "free"
    CHANGING = "changing"
    LOOP = "loop"
    CLOSED = "closed"


_FREE: Final = (
    State.FREE
)  # a global name, because looking up an enum's member costs time in each call


class Calls:
    """Runs the synchronous calls of one store, and keeps track of the event loop that owns the store.

    Args:
        settle: waits until a ticket is done or the store has failed. It is called in the thread that has the store.
        failure: returns the error that has stopped the store for good, or None.
    """

    def __init__(
        self,
        settle: Callable[[Ticket[Any]], None],
        failure: Callable[[], BaseException | None],
    ) -> None:
        self._settle = settle
        self._failure = failure
        self._lock = threading.Lock()  # guards all attributes below
        self._changed = threading.Condition(self._lock)
        self._state = State.FREE
        self._holder: int | None = None  # the thread that runs a call or changes the state
        self._pending_changes = 0  # changes of state that wait for the running call to end
        self._waiting: deque[WaitingCall[Any]] = deque()
        self._started: dict[WaitingCall[Any], None] = {}  # calls that run on the loop
        self._owner: OwnerLoop | None = None
        self._is_loop_called = False  # whether the loop is about to run `_start_waiting`

    @property
    def state(self) -> State:
        """The state of the store."""
        return self._state

    @property
    def waiting(self) -> int:
        """The number of calls that have not started."""
        return len(self._waiting)

    def run(self, function: Callable[[], Ticket[T]]) -> T:
        """Calls a function where the store may be called, waits for the ticket that it returns, and returns the ticket's result.

        Raises:
            RuntimeError: the store is closed, or the event loop that has the store has stopped.
            BaseException: the ticket's error. If the store has stopped for good, that is the error that stopped it.
        """
        with self._lock:
            has_turn = (
                self._holder is None
                and self._state is _FREE
                and not (self._waiting or self._pending_changes)
            )
            if has_turn:
                self._holder = threading.get_ident()
        if not has_turn:
            return self._run_or_wait(function)
        try:
            ticket = function()
            if ticket.done:
                return ticket.result()
            return self._run_here(lambda: ticket)
        except Abandoned as abandoned:
            raise abandoned.cause from None
        finally:
            self._end_turn()

    # -- changes of state ---------------------------------------------------

    def attach(
        self,
        loop: asyncio.AbstractEventLoop,
        take: Callable[[], None],
        give_back: Callable[[], None],
    ) -> bool:
        """Gives the store to a loop once the running call has ended. It must be called in the loop's thread.

        Several applications on one loop may attach. Then the last `detach` takes the store back.

        Args:
            loop: the loop.
            take: prepares the store for the loop. It is called for the first application only.
            give_back: takes the store back from the loop.

        Returns:
            True if the loop did not have the store before.

        Raises:
            RuntimeError: the store is closed, another loop has it, or this thread is in the middle of a call.
        """
        with self._lock:
            owner = self._owner
            has_store = self._state is State.LOOP
            if has_store and owner is not None and owner.loop is loop and owner.is_ours:
                owner.sharers += 1
                return False
        self._await_change("given to an event loop", from_running=False)
        try:
            take()
        except BaseException:
            self._end_change(State.FREE)
            raise
        owner = self._owner = OwnerLoop(loop, give_back)
        self._end_change(State.LOOP)
        owner.watch_end(self._loop_ends)
        return True

    def detach(self) -> None:
        """Takes the store back from its loop, unless another application on the loop still uses it. It must be called in the loop's
        thread.

        The calls that the loop has started are finished first. Waiting calls continue in their own threads. Does nothing if no loop
        has the store.

        Raises:
            RuntimeError: the loop is running in another thread.
        """
        with self._lock:
            owner = self._owner
            if self._state is not State.LOOP or owner is None:
                return
            if not owner.is_ours:
                raise RuntimeError("the event loop that has the store runs in another thread")
            if owner.sharers:
                owner.sharers -= 1
                return
            self._begin_change()
        try:
            self._take_back()
        finally:
            self._end_change(State.FREE)

    def close(self, end: Callable[[], None]) -> None:
        """Closes the store. Waiting calls and all later calls are refused. Closing twice does nothing.

        Args:
            end: closes the store itself.

        Raises:
            RuntimeError: a loop in another thread has the store, or this thread is in the middle of a call.
        """
        if self._state is State.CLOSED:
            return
        self._await_change("closed", from_running=True)
        try:
            end()
        finally:
            self._end_change(State.CLOSED)

    def _await_change(self, what: str, *, from_running: bool) -> None:
        """Enters CHANGING, after the running call or change has ended and an owning loop has given the store back.

        Args:
            what: the change, for the error message.
            from_running: whether the change is allowed in a callback of the loop that has the store.
        """
        with self._lock:
            if self._holder == threading.get_ident():
                raise RuntimeError(f"the store cannot be {what} in the middle of a call")
            self._pending_changes += 1
            while self._holder is not None:
                self._changed.wait()
            self._pending_changes -= 1
            try:
                has_loop = self._state is State.LOOP
                self._require_changeable(what, from_running)
            except BaseException:
                self._hand_on()
                raise
            self._begin_change()
        if has_loop:
            try:
                self._take_back()
            except BaseException:
                self._end_change(State.FREE)
                raise

    def _require_changeable(self, what: str, from_running: bool) -> None:
        if self._state is State.CLOSED:
            raise _closed_error()
        if self._state is State.LOOP:
            owner = cast(OwnerLoop, self._owner)
            if not owner.is_ours or (owner.runs_here and not from_running):
                raise RuntimeError(f"the store cannot be {what} while an event loop has it")

    def _begin_change(self) -> None:
        self._state = State.CHANGING
        self._holder = threading.get_ident()

    def _end_change(self, state: State) -> None:
        """Ends a change of state: enters the new state, and passes the waiting calls on to the thread that runs them now."""
        with self._lock:
            self._state = state
            self._holder = None
            self._is_loop_called = False
            if state is not State.LOOP:
                self._owner = None
            self._hand_on()
            self._changed.notify_all()

    def _take_back(self) -> None:
        """Finishes the calls that the loop has started, and takes the store from the loop. The state must be CHANGING."""
        owner = cast(OwnerLoop, self._owner)
        try:
            if not owner.is_closed:  # a closed loop can no longer finish calls
                for call in tuple(self._started):
                    call.settle(self._settle)
            owner.give_back()
        finally:
            for call in tuple(self._started):
                call.fail(self._failure() or RuntimeError(_UNKNOWN))
            self._started.clear()
            owner.stop_watching()

    def _loop_ends(self) -> None:
        """Takes the store back because `asyncio.run` ends the loop, even if applications on the loop still use the store."""
        owner = self._owner
        if owner is not None:
            owner.sharers = 0
        self.detach()

    # -- calls --------------------------------------------------------------

    def _run_or_wait(self, function: Callable[[], Ticket[T]]) -> T:
        """Runs a call while another thread or an event loop has the store, or while other calls wait."""
        call = None
        with self._lock:
            if self._state is State.CLOSED:
                raise _closed_error()
            if self._holder != threading.get_ident() and not self._is_loop_here():
                call = WaitingCall(function)
                self._waiting.append(call)
                self._hand_on()
        return self._run_here(function) if call is None else self._wait(call)

    def _is_loop_here(self) -> bool:
        """Returns whether this is the thread of the loop that has the store."""
        owner = self._owner
        return (
            self._state is State.LOOP
            and owner is not None
            and owner.is_ours
            and not owner.is_closed
        )

    def _run_here(self, function: Callable[[], Ticket[T]]) -> T:
        """Runs a call in this thread."""
        ticket = function()
        self._settle(ticket)
        if not ticket.done:  # the store has failed
            raise self._failure() or RuntimeError("the store does not answer")
        return result_of(ticket)

    def _end_turn(self) -> None:
        # No lock is needed. Another thread registers its call or change before it reads `_holder`, and this thread clears `_holder` before it
        # checks for calls and changes. So at least one of them notices the other.
        self._holder = None
        if self._waiting or self._pending_changes:
            with self._lock:
                self._hand_on()
                self._changed.notify_all()

    def _hand_on(self) -> None:
        """Passes the waiting calls to the thread that may run them in the present state. The caller must hold the lock."""
        if not self._waiting:
            return
        if self._state is State.CLOSED:
            while self._waiting:
                self._waiting.popleft().fail(_closed_error())
        elif self._state is State.FREE:
            if self._holder is None and not self._pending_changes:
                call = self._waiting.popleft()
                self._holder = call.thread
                call.give_turn()
        elif self._state is State.LOOP and not self._is_loop_called:
            loop = cast(OwnerLoop, self._owner).loop
            with contextlib.suppress(
                RuntimeError
            ):  # the loop is closed, which the next check notices
                loop.call_soon_threadsafe(self._start_waiting)
                self._is_loop_called = True

    def _start_waiting(self) -> None:
        """Starts the waiting calls on the loop."""
        while (call := self._next_for_loop()) is not None:
            call.start(self._forget_started)

    def _next_for_loop(self) -> WaitingCall[Any] | None:
        with self._lock:
            owner = self._owner
            if self._state is not State.LOOP or owner is None or not owner.runs_here:
                return None  # the store has changed its owner since the loop was called
            self._is_loop_called = False
            if not self._waiting:
                return None
            call = self._waiting.popleft()
            self._started[call] = None
            return call

    def _forget_started(self, call: WaitingCall[Any]) -> None:
        with self._lock:
            self._started.pop(call, None)

    def _wait(self, call: WaitingCall[T]) -> T:
        """Waits in the call's own thread until the call has ended, or until the thread has to run the call itself."""
        try:
            while not call.is_done and not call.has_turn:
                if self._must_take_back(call):
                    try:
                        self._take_back()
                    finally:
                        self._end_change(State.FREE)
                else:
                    call.awake.wait(_CHECK_INTERVAL)
                    call.awake.clear()
        except BaseException:
            self._withdraw(call)
            raise
        if call.is_done:
            return call.result()
        try:
            return self._run_here(call.function)
        finally:
            self._end_turn()

    def _must_take_back(self, call: WaitingCall[Any]) -> bool:
        """Checks the loop that has the store. Returns True if the loop is closed; the state is then CHANGING, and the caller has to
        take the store back.

        Raises:
            RuntimeError: the loop has stopped, and nobody has taken the store back.
        """
        with self._lock:
            if self._state is not State.LOOP or call.is_done or call.has_turn:
                return False
            owner = cast(OwnerLoop, self._owner)
            if owner.is_closed:
                self._begin_change()
                return True
            call.stopped_checks = 0 if owner.loop.is_running() else call.stopped_checks + 1
            if call.stopped_checks <= _MAX_STOPPED_CHECKS:
                return False
            raise RuntimeError(_STOPPED if call in self._waiting else _UNKNOWN)

    def _withdraw(self, call: WaitingCall[Any]) -> None:
        """Removes a call whose thread no longer waits, and lets the next call run if it was this call's turn."""
        with self._lock:
            if call in self._waiting:
                self._waiting.remove(call)
            had_turn = call.has_turn
        if had_turn:
            self._end_turn()


def _closed_error() -> RuntimeError:
    return RuntimeError("the store is closed")
