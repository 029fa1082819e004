"""Who may call a store at this moment: the thread whose turn it is, or the event loop that owns the store.

    state      what a call does                                      left by
    FREE       takes its turn, one thread after the other            attach, close
    CHANGING   waits                                                 the end of attach, detach or close
    LOOP       runs on the loop; from the loop's thread, at once     detach, close, the end of the loop
    CLOSED     is refused

A call that waits is handed over whenever the state changes: to the loop that takes the store, to its own thread once no loop
has the store, or to a refusal. `detach` first finishes the calls that the loop has begun. `asyncio.run` ends with such a
detach even if nobody asked for one, and the next caller takes the store back from a loop that was closed without one. So
every call ends, with a result or an error.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, Final, Generic, TypeVar, cast

from ..storage.ticket import Abandoned, Ticket

T = TypeVar("T")

# A waiting thread is woken by every change of state. But a loop can stop, or be closed, without a word to anybody, and
# asyncio has no call for that: so the thread looks at the loop from time to time, and takes it for stopped after a few looks.
_LOOK_EVERY: Final = 0.25  # seconds
_LOOKS: Final = 4

_STOPPED: Final = "the event loop that has the store has stopped"
_UNKNOWN: Final = f"{_STOPPED}, and nobody knows what became of this call"


class State(enum.Enum):
    """Who has the store."""

    FREE = "free"
    CHANGING = "changing"
    LOOP = "loop"
    CLOSED = "closed"


_FREE: Final = State.FREE  # an enum's member costs a look-up of its own, in each call


class Calls:
    """The calls of one store.

    Args:
        settle: returns when a ticket is done, or the store has failed; called by whoever has the store.
        failure: returns what has stopped the store for good, or None.
    """

    def __init__(
        self,
        settle: Callable[[Ticket[Any]], None],
        failure: Callable[[], BaseException | None],
    ) -> None:
        self._settle = settle
        self._failure = failure
        self._lock = threading.Lock()  # guards what follows
        self._changed = threading.Condition(self._lock)
        self._state = State.FREE
        self._holder: int | None = None  # the thread whose turn it is, or that makes a change
        self._wanted = 0  # changes that wait for the turn to end
        self._waiting: deque[_Call[Any]] = deque()
        self._begun: dict[_Call[Any], None] = {}  # by the loop
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: int | None = None  # the loop's
        self._sharers = 0  # applications of the loop that have the store besides the first
        self._is_called = False  # the loop will take what waits
        self._give_back: Callable[[], None] = _nothing
        self._guard: AsyncGenerator[None, None] | None = None

    @property
    def state(self) -> State:
        """Who has the store."""
        return self._state

    @property
    def waiting(self) -> int:
        """How many calls wait to begin."""
        return len(self._waiting)

    def run(self, function: Callable[[], Ticket[T]]) -> T:
        """Calls a function where the store may be called, waits for its ticket, and returns the result.

        Raises:
            RuntimeError: the store is closed, or the event loop that has it has stopped.
            BaseException: what the ticket fails with; if the store has stopped for good, what stopped it.
        """
        with self._lock:
            has_turn = (
                self._holder is None
                and self._state is _FREE
                and not (self._waiting or self._wanted)
            )
            if has_turn:
                self._holder = threading.get_ident()
        if not has_turn:
            return self._run_otherwise(function)
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
        """Gives the store to a loop, on the loop's thread, once the call that runs has ended. A loop that has the store already
        shares it among its applications: the last `detach` takes it back.

        Args:
            loop: the loop.
            take: makes the store work for the loop.
            give_back: takes the store back from the loop.

        Returns:
            Whether the loop did not have the store before.

        Raises:
            RuntimeError: the store is closed, another loop has it, or this thread is in the middle of a call.
        """
        with self._lock:
            if self._state is State.LOOP and self._loop is loop and self._is_ours():
                self._sharers += 1
                return False
        self._begin_change("given to an event loop", from_running=False)
        try:
            take()
        except BaseException:
            self._enter(State.FREE)
            raise
        self._loop, self._thread, self._give_back = loop, threading.get_ident(), give_back
        self._enter(State.LOOP)
        if _running_loop() is loop:
            self._guard = self._until_the_loop_ends()
            _step(self._guard.asend(None))
        return True

    def detach(self) -> None:
        """Takes the store back from its loop, on the loop's thread, unless another application there shares it. Calls that the
        loop has begun are finished first, and calls that wait go on in their own threads. Does nothing if no loop has the store.

        Raises:
            RuntimeError: the loop runs in another thread.
        """
        with self._lock:
            if self._state is not State.LOOP:
                return
            if not self._is_ours():
                raise RuntimeError("the event loop that has the store runs in another thread")
            if self._sharers:
                self._sharers -= 1
                return
            self._change()
        try:
            self._take_back()
        finally:
            self._enter(State.FREE)

    def close(self, end: Callable[[], None]) -> None:
        """Closes the store; calls that wait, and all later ones, are refused. Closing twice does nothing.

        Args:
            end: closes the store itself.

        Raises:
            RuntimeError: a loop in another thread has the store, or this thread is in the middle of a call.
        """
        if self._state is State.CLOSED:
            return
        self._begin_change("closed", from_running=True)
        try:
            end()
        finally:
            self._enter(State.CLOSED)

    def _begin_change(self, what: str, *, from_running: bool) -> None:
        """Waits until the turn or the change of another thread has ended, takes the store from a loop, and enters CHANGING."""
        with self._lock:
            if self._holder == threading.get_ident():
                raise RuntimeError(f"the store cannot be {what} in the middle of a call")
            self._wanted += 1
            while self._holder is not None:
                self._changed.wait()
            self._wanted -= 1
            try:
                has_loop = self._state is State.LOOP
                self._check_change(what, from_running)
            except BaseException:
                self._stir()
                raise
            self._change()
        if has_loop:
            try:
                self._take_back()
            except BaseException:
                self._enter(State.FREE)
                raise

    def _check_change(self, what: str, from_running: bool) -> None:
        if self._state is State.CLOSED:
            raise _closed()
        if self._state is State.LOOP:
            runs_here = _running_loop() is self._loop
            if not self._is_ours() or (runs_here and not from_running):
                raise RuntimeError(f"the store cannot be {what} while an event loop has it")

    def _change(self) -> None:
        self._state = State.CHANGING
        self._holder = threading.get_ident()

    def _enter(self, state: State) -> None:
        """Ends a change."""
        with self._lock:
            self._state = state
            self._holder = None
            self._is_called = False
            if state is not State.LOOP:
                self._loop = self._thread = None
                self._sharers = 0
            self._stir()
            self._changed.notify_all()

    def _take_back(self) -> None:
        """Finishes what the loop has begun, and takes the store from it, in CHANGING."""
        guard, self._guard = self._guard, None
        try:
            if not self._is_lost():  # what needs the loop can still be done
                for call in tuple(self._begun):
                    call.settle(self._settle)
            self._give_back()
        finally:
            for call in tuple(self._begun):
                call.fail(self._failure() or RuntimeError(_UNKNOWN))
            self._begun.clear()
            if guard is not None:
                _step(guard.aclose())

    async def _until_the_loop_ends(self) -> AsyncGenerator[None, None]:
        """Is closed by `asyncio.run` as it ends, whatever has ended it, and takes the store back then."""
        try:
            yield
        finally:
            self._guard = None  # this one is closed already
            self._sharers = 0
            self.detach()

    # -- calls --------------------------------------------------------------

    def _is_ours(self) -> bool:
        """Whether no other thread can be running the loop that has the store."""
        loop = self._loop
        if loop is None:
            return False
        stands_here = self._thread == threading.get_ident() and not loop.is_running()
        return _running_loop() is loop or stands_here or loop.is_closed()

    def _is_here(self) -> bool:
        """Whether this is the thread of the loop that has the store."""
        return self._state is State.LOOP and self._is_ours() and not self._is_lost()

    def _is_lost(self) -> bool:
        """Whether the loop that has the store will never run again."""
        return self._loop is not None and self._loop.is_closed()

    def _run_otherwise(self, function: Callable[[], Ticket[T]]) -> T:
        """Makes a call that does not get its turn at once."""
        call = None
        with self._lock:
            if self._state is State.CLOSED:
                raise _closed()
            if self._holder != threading.get_ident() and not self._is_here():
                call = _Call(function)
                self._waiting.append(call)
                self._stir()
        return self._run_here(function) if call is None else self._wait(call)

    def _run_here(self, function: Callable[[], Ticket[T]]) -> T:
        ticket = function()
        self._settle(ticket)
        if not ticket.done:
            raise self._unfinished()
        return result_of(ticket)

    def _unfinished(self) -> BaseException:
        """Returns why a ticket that was settled is not done: the store has failed."""
        return self._failure() or RuntimeError("the store does not answer")

    def _end_turn(self) -> None:
        # Without the lock: who waits says so before it looks at the holder, so one of the two sees the other.
        self._holder = None
        if self._waiting or self._wanted:
            with self._lock:
                self._stir()
                self._changed.notify_all()

    def _stir(self) -> None:
        """Has what waits go on as the state allows. Under the lock."""
        if not self._waiting:
            return
        if self._state is State.CLOSED:
            while self._waiting:
                self._waiting.popleft().fail(_closed())
        elif self._state is State.FREE:
            if self._holder is None and not self._wanted:
                call = self._waiting.popleft()
                self._holder = call.thread
                call.take_turn()
        elif self._state is State.LOOP and not self._is_called:
            loop = cast(asyncio.AbstractEventLoop, self._loop)
            with contextlib.suppress(RuntimeError):  # it is closed, as the next look will find
                loop.call_soon_threadsafe(self._take)
                self._is_called = True

    def _take(self) -> None:
        """Begins the calls that wait, on the loop."""
        while (call := self._next_for_loop()) is not None:
            call.begin(self._ended)

    def _next_for_loop(self) -> _Call[Any] | None:
        with self._lock:
            if self._state is not State.LOOP or _running_loop() is not self._loop:
                return None  # the store has another owner than when the loop was called
            self._is_called = False
            if not self._waiting:
                return None
            call = self._waiting.popleft()
            self._begun[call] = None
            return call

    def _ended(self, call: _Call[Any]) -> None:
        with self._lock:
            self._begun.pop(call, None)

    def _wait(self, call: _Call[T]) -> T:
        """Waits, in the call's own thread, until the call has ended or it is the thread's turn."""
        try:
            while not call.is_done and not call.has_turn:
                if self._look(call):
                    try:
                        self._take_back()
                    finally:
                        self._enter(State.FREE)
                else:
                    call.awake.wait(_LOOK_EVERY)
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

    def _look(self, call: _Call[Any]) -> bool:
        """Looks at the loop that has the store. Returns True when the caller must take the store back.

        Raises:
            RuntimeError: the loop has stopped, and nobody has taken the store back.
        """
        with self._lock:
            if self._state is not State.LOOP or call.is_done or call.has_turn:
                return False
            if self._is_lost():
                self._change()
                return True
            is_running = cast(asyncio.AbstractEventLoop, self._loop).is_running()
            call.looks = 0 if is_running else call.looks + 1
            if call.looks <= _LOOKS:
                return False
            raise RuntimeError(_STOPPED if call in self._waiting else _UNKNOWN)

    def _withdraw(self, call: _Call[Any]) -> None:
        """Takes back a call whose thread waits no longer."""
        with self._lock:
            if call in self._waiting:
                self._waiting.remove(call)
            had_turn = call.has_turn
        if had_turn:
            self._end_turn()


class _Call(Generic[T]):
    """A call whose thread waits.

    Attributes:
        function: what is to be called.
        thread: the one that waits.
        awake: set when the thread should look at the call.
        is_done: whether `result` has something.
        has_turn: whether the thread must make the call itself, now.
        looks: how many times in a row the loop was found stopped.
    """

    __slots__ = (
        "_error",
        "_ticket",
        "_value",
        "awake",
        "function",
        "has_turn",
        "is_done",
        "looks",
        "thread",
    )

    def __init__(self, function: Callable[[], Ticket[T]]) -> None:
        self.function = function
        self.thread = threading.get_ident()
        self.awake = threading.Event()
        self.is_done = False
        self.has_turn = False
        self.looks = 0
        self._ticket: Ticket[T] | None = None
        self._value: T | None = None
        self._error: BaseException | None = None

    def take_turn(self) -> None:
        """Has the thread make the call."""
        self.has_turn = True
        self.awake.set()

    def begin(self, ended: Callable[[_Call[T]], None]) -> None:
        """Makes the call on the loop; `ended` hears of its end."""

        def finish(ticket: Ticket[T]) -> None:
            ended(self)
            try:
                self._value = result_of(ticket)
            except BaseException as error:
                self._error = error
            self._end()

        try:
            self._ticket = self.function()
        except BaseException as error:  # the thread must hear of it, whatever it is
            ended(self)
            self.fail(error)
            if not isinstance(error, Exception):
                raise
        else:
            self._ticket.add_callback(finish)

    def settle(self, settle: Callable[[Ticket[Any]], None]) -> None:
        """Waits for the ticket that the loop has begun."""
        if self._ticket is not None:
            settle(self._ticket)

    def fail(self, error: BaseException) -> None:
        """Ends the call with an error, unless it has ended."""
        if not self.is_done:
            self._error = error
            self._end()

    def result(self) -> T:
        """Returns what the call returned, or raises what it raised."""
        if self._error is not None:
            raise self._error
        return cast(T, self._value)

    def _end(self) -> None:
        self.is_done = True
        self.awake.set()


def result_of(ticket: Ticket[T]) -> T:
    """Returns a ticket's result; raises what stopped the store rather than that it did."""
    try:
        return ticket.result()
    except Abandoned as abandoned:
        raise abandoned.cause from None


def _closed() -> RuntimeError:
    return RuntimeError("the store is closed")


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _step(coroutine: Coroutine[Any, Any, Any]) -> None:
    """Runs a coroutine that does not wait."""
    try:
        coroutine.send(None)
    except (StopIteration, StopAsyncIteration):
        return


def _nothing() -> None:
    return
