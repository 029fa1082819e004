"""The running thing: one method per command, on one event loop, without HTTP."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Final, TypeVar, cast

from ..errors import Unavailable
from ..protocol import json_scan
from ..protocol.commands import Append, Create, Delete, Read
from ..protocol.decide import (
    AppendOutcome,
    CreateOutcome,
    DeleteOutcome,
    require_visible,
)
from ..protocol.limits import RETRY_SOON
from ..protocol.page import Page
from ..protocol.paths import normalize_root
from ..protocol.preconditions import Conditions
from ..protocol.state import StreamState
from ..storage.store import Published, Store
from ..storage.ticket import Ticket
from . import bodies, forks
from .clock import Clock, StoreClock, clock_of, system_clock
from .cursors import Cursors
from .event_stream import EventStream
from .expiry import Sweep
from .hooks import Hooks
from .large import LargeReads, SendBudget
from .long_poll import PendingLongPoll
from .options import EngineOptions
from .reader import Reader, position_at
from .tails import Group, Tails, Waiter
from .turns import Turns

C = TypeVar("C", Append, Create)

_SPEED: Final = 1.5e9  # bytes in a second that are framed and written to a socket


class Engine:
    """Runs one store. All calls come from the event loop's thread.

    Args:
        store: where streams are kept.
        options: how reads are bounded.
        hooks: who is told of streams that begin and end.
        clock: what time it is; one that ticks may be set while the engine runs.

    Attributes:
        clock: steady time, and the wall clock for dates.
        turns: the line in which long work runs in short steps.
        cursors: the cursors of live responses.
        large: reads large pages.
        sending: what readers that have not taken it hold of large pages.
        random: returns a new random number from 0 to 1 on each call.
        loop: the event loop that the engine was started on; None before that.
    """

    def __init__(
        self,
        store: Store,
        options: EngineOptions = EngineOptions(),  # noqa: B008  (frozen)
        hooks: Hooks | None = None,
        clock: Clock = system_clock,
    ) -> None:
        self.store = store
        self.options = options
        self.clock: StoreClock = clock_of(store.timeline, clock)
        self.turns = Turns(is_waited_for=lambda: store.is_busy)
        self.cursors = Cursors(options.cursor, self.clock.wall)
        self.random: Callable[[], float] = random.random
        self.sending = SendBudget(options.max_unsent)
        self.large = LargeReads(self.sending, self._in_line, self._has_time)
        self.reader = Reader(store, self.large)
        self.tails = Tails(self.turns)
        self.hooks = hooks or Hooks(())
        self.stopping = False
        self.loop: asyncio.AbstractEventLoop | None = None
        self._started = False  # until then the store may be used without a loop
        self._given_back = False
        self.failure: BaseException | None = None  # why the store has stopped for good
        self.on_failure: Callable[[BaseException], None] = _ignore
        self._sweep = Sweep(store, self.clock)
        store.configure(self.hooks.registry, normalize_root(options.stream_root))
        store.listen(self._published)

    def start(self) -> None:
        """Takes the store and begins the sweep; called once, on the running loop, before there are clients."""
        json_scan.prepare()
        self.store.attach(asyncio.get_running_loop(), self._store_failed)
        self.loop = asyncio.get_running_loop()
        self._started = True
        self._sweep.start()

    def begin_shutdown(self) -> None:
        """Ends live reads: long-polls answer at once, event streams send a last control event and end."""
        if not self.stopping:
            self.stopping = True
            self._sweep.stop()
            self.tails.wake_all()

    async def stop(self) -> None:
        """Ends live reads, waits for running hooks, and gives the store back, open, to who made it."""
        self.begin_shutdown()
        await self.hooks.drain()
        self._given_back = True
        if self._started:
            self._started = False
            self.store.detach()

    def require_store(self) -> None:
        """Refuses what has waited for longer than the engine has had the store.

        Raises:
            Unavailable: SERVER_STOPPING.
        """
        if self._given_back:
            raise stopping_error()

    def retire(self) -> None:
        """Hears no more of the store, whose loop has ended: another engine has it from now on."""
        self._given_back = True
        self.store.ignore(self._published)

    def create(self, command: Create) -> Ticket[CreateOutcome]:
        """Creates a stream or fork, or confirms that the same one exists. A large JSON body is split first, in turns."""
        if bodies.is_ready(command):
            return self._create(command)
        return self._prepared(command).then(self._create)

    def append(self, command: Append) -> Ticket[AppendOutcome]:
        """Appends, closes, or both."""
        return self.store.execute(command, self.clock())  # type: ignore[return-value]  # faster than `cast`

    def append_large(self, command: Append) -> Ticket[AppendOutcome]:
        """Appends a large JSON body, which is split first, in turns."""
        return self._prepared(command).then(self.append)

    def delete(self, path: str, conditions: Conditions | None = None) -> Ticket[DeleteOutcome]:
        """Deletes a stream, if it is as the conditions say."""
        command = Delete(path, conditions)
        return cast("Ticket[DeleteOutcome]", self.store.execute(command, self.clock()))

    def head(self, path: str) -> Ticket[StreamState]:
        """Looks a stream up; its lifetime is not touched."""
        return self.store.find(path).then(self._require)

    def check_visible(self, path: str) -> None:
        """Refuses a path without a stream, as far as that is known at once.

        Raises:
            NotFound, Gone, StreamDamaged: as `head` has it.
        """
        found = self.head(path)
        if found.done:
            found.result()

    def find_loaded(self, path: str) -> StreamState | None:
        """Returns the stream at a path, as `head` does, if that is known at once; None if it is not.

        Raises:
            NotFound, Gone, StreamDamaged: as `head` has it.
        """
        found = self.store.find(path)
        return self._visible(found.result()) if found.done else None

    def read(self, read: Read) -> Ticket[Page]:
        """Reads one catch-up page; with `now`, an empty one at the tail."""
        found = self.store.find(read.path)
        if found.done:  # as nearly always: the same as below, in fewer calls
            try:
                state = self._visible(found.result())
                checked = self.reader.check(state, position_at(state, read.offset))
                if checked.done:
                    self.touch(state)
                    return self.reader.page(state, checked.result(), self.options.page_size)
            except Exception as error:
                return Ticket.failed(error)
        return self.locate(read).then(
            lambda place: self.reader.page(*place, self.options.page_size)
        )

    def locate(self, read: Read) -> Ticket[tuple[StreamState, int]]:
        """Finds the stream of a read and the position at which the read begins. It counts as a use of the stream."""

        def check(found: StreamState | None) -> Ticket[tuple[StreamState, int]]:
            state = self._visible(found)
            checked = self.reader.check(state, position_at(state, read.offset))
            return checked.then(lambda position: begin(state, position))

        def begin(state: StreamState, position: int) -> Ticket[tuple[StreamState, int]]:
            self.touch(self._visible(state))  # it may be gone by now
            return Ticket.of((state, position))

        return self.store.find(read.path).then(check)

    def long_poll(self, read: Read) -> Ticket[Page]:
        """Reads one page, waiting for data if there is none. Cancelling the ticket ends the wait."""

        def begin(place: tuple[StreamState, int]) -> Ticket[Page]:
            pending = PendingLongPoll(self, *place)
            pending.wake()
            return pending.ticket

        return self.locate(read).then(begin)

    def events(self, read: Read, on_ready: Callable[[], None]) -> Ticket[EventStream]:
        """Begins an event stream, which its owner must close."""
        return self.locate(read).then(
            lambda place: Ticket.of(EventStream(self, *place, read.cursor, on_ready))
        )

    def subscribe(self, state: StreamState, waiter: Waiter) -> Group:
        """Has a live reader woken at the stream's changes, and keeps the stream alive meanwhile."""
        return self.tails.subscribe(state, waiter)

    def unsubscribe(self, state: StreamState, waiter: Waiter) -> None:
        """Ends what `subscribe` began; the sliding lifetime runs from now."""
        self.tails.unsubscribe(state, waiter)
        if not state.removed:
            self.touch(state)

    def next_cursor(self, client_cursor: str | None) -> str:
        """Returns the cursor for a live response (PROTOCOL 10.1)."""
        return self.cursors.after(client_cursor)

    def is_ahead(self, client_cursor: str | None) -> bool:
        """Whether a client's cursor is not behind the present interval, so that its responses need cursors of its own."""
        return self.next_cursor(client_cursor) != self.next_cursor(None)

    def _prepared(self, command: C) -> Ticket[C]:
        """Returns a command whose large JSON body is split, which is done in turns.

        Raises:
            Unavailable: SERVER_STOPPING, if the engine has given its store back meanwhile.
        """

        def hand_over(ready: C) -> Ticket[C]:
            self.require_store()
            return Ticket.of(ready)

        return bodies.prepare(self.store, self.turns, command).then(hand_over)

    def _create(self, command: Create) -> Ticket[CreateOutcome]:
        """Creates a stream or fork from a command whose body is ready."""
        resolved = forks.resolve(self.store, self.reader, command, self.clock(), self.turns)
        return resolved.then(self._create_at_once)

    def _create_at_once(self, resolved: Create) -> Ticket[CreateOutcome]:
        """Decides a create at the present time, because finding the fork's position may have waited for the disk."""
        self.require_store()
        return cast("Ticket[CreateOutcome]", self.store.execute(resolved, self.clock()))

    def _store_failed(self, error: BaseException) -> None:
        self.failure = error
        self.begin_shutdown()
        self.on_failure(error)

    def _require(self, state: StreamState | None) -> Ticket[StreamState]:
        return Ticket.of(self._visible(state))

    def _visible(self, state: StreamState | None) -> StreamState:
        """Returns a stream that readers may see. The time matters only to one that can end by itself.

        Raises:
            NotFound, Gone, StreamDamaged: as `head` has it.
        """
        now = self.clock() if state is not None and state.mortal else 0
        return require_visible(state, now)

    def touch(self, state: StreamState) -> None:
        """Notes a use, if the stream can end; a store may want to look at it again before that."""
        if state.mortal and not self._given_back:
            self.store.touch(state, self.clock())
            self._schedule()

    def _in_line(self, step: Callable[[], None]) -> None:
        """Has a step called when it is its turn, or at once where no loop runs."""
        if self._started:
            self.turns.add(step)
        else:
            step()

    def _has_time(self, size: int) -> bool:
        """Whether so many bytes may be sent at once."""
        return not self._started or self.turns.has_time(size / _SPEED)

    def _schedule(self) -> None:
        if self._started and not self.stopping:
            self._sweep.schedule()

    def _published(self, published: Sequence[Published]) -> None:
        """What has become durable, whoever asked for it, is told to who waits for it."""
        mortal = False
        for item in published:
            state = item.state
            if state is None:
                continue
            self.tails.wake(state, item.change)
            mortal = mortal or state.mortal
        if self.hooks.present:
            self.hooks.notify(published, self.clock.wall())
        if mortal:
            self._schedule()


def stopping_error() -> Unavailable:
    """Returns the error that refuses a request because the server is stopping."""
    return Unavailable("the server is stopping", "SERVER_STOPPING", retry_after=RETRY_SOON)


def _ignore(_: BaseException) -> None:
    return
