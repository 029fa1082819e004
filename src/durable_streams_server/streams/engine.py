"""The engine: runs the streams of one store on one event loop, without HTTP.

It has one method for each command. It wakes live reads, expires streams and calls lifecycle hooks. The HTTP handlers and the interface for
programs (`embedded.py`) both call it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Final, TypeVar, cast

from ..errors import Unavailable
from ..protocol import sse
from ..protocol.commands import Append, Create, Delete, Read
from ..protocol.decisions.outcomes import AppendOutcome, CreateOutcome, DeleteOutcome
from ..protocol.existing import require_visible
from ..protocol.json import scan as json_scan
from ..protocol.limits import RETRY_SOON, SSE_RETRY_MS
from ..protocol.page import Page
from ..protocol.paths import normalize_root
from ..protocol.preconditions import Conditions
from ..protocol.state import StreamState
from ..storage.store import Published, Store
from ..storage.ticket import Ticket
from . import bodies, forks
from .clock import Clock, StoreClock, clock_of, system_clock
from .cursors import Cursors
from .draining import Drain, retry_spread
from .event_stream import EventStream
from .expiry import Sweep
from .hooks import Hooks
from .large import LargeReads, SendBudget
from .long_poll import PendingLongPoll
from .options import EngineOptions
from .reader import Reader, position_at
from .tails import Group, Tails, Waiter
from .term import Term
from .turns import Turns

C = TypeVar("C", Append, Create)

_SPEED: Final = 1.5e9  # measured bytes per second at which pages are framed and written to sockets


class Engine:
    """Runs the streams of one store. All methods must be called in the event loop's thread.

    Args:
        store: the store that keeps the streams.
        options: the limits and timeouts of reads.
        hooks: the functions to call when streams are created or deleted.
        clock: the wall clock. It may be set while the engine runs if it also counts ticks.

    Attributes:
        clock: steady time, and the wall clock for dates.
        drain: ends the live reads at different times; None before `begin_drain`.
        turns: runs long work in short steps.
        cursors: the CDN cursors of live responses.
        large: reads large pages.
        sending: the budget for large pages that clients have not received yet.
        random: returns a new random number from 0 to 1 on each call.
        loop: the event loop that the engine was started on; None before the start.
        failure: the error that has stopped the store for good, or None.
        on_failure: called with that error when the store stops.
    """

    def __init__(
        self,
        store: Store,
        options: EngineOptions = EngineOptions(),  # noqa: B008  (the default is immutable)
        hooks: Hooks | None = None,
        clock: Clock = system_clock,
    ) -> None:
        self.store = store
        self.options = options
        self.clock: StoreClock = clock_of(store.timeline, clock)
        self.turns = Turns(is_waited_for=lambda: store.is_busy)
        self.cursors = Cursors(options.cursor, self.clock.wall)
        self.random: Callable[[], float] = random.random
        self.sending = SendBudget(options.max_unsent, store.slow_work)
        self.large = LargeReads(self.sending, self._in_line, self._has_time)
        self.reader = Reader(store, self.large)
        self.tails = Tails(self.turns)
        self.hooks = hooks or Hooks(())
        self.stopping = False
        self.drain: Drain | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self._started = False  # before the start, the store may be used without a loop
        self._given_back = False
        self._retry_spread = 0  # milliseconds over which browsers reconnect after a stop
        self.failure: BaseException | None = None
        self.on_failure: Callable[[BaseException], None] = _ignore
        self._sweep = Sweep(store, self.clock)
        store.configure(self.hooks.registry, normalize_root(options.stream_root))
        store.listen(self._published)

    def start(self) -> None:
        """Attaches the store to the running event loop and starts to expire streams. It must be called once, before the first request."""
        json_scan.prepare()
        self.store.attach(asyncio.get_running_loop(), self._store_failed)
        self.loop = asyncio.get_running_loop()
        self._started = True
        self._sweep.start()

    def begin_drain(self, seconds: float) -> None:
        """Begins to end the live reads of clients one after the other, spread over some seconds. Other requests are still answered.

        The caller must call `begin_shutdown` after that time.
        """
        if self.drain is None and not self.stopping:
            self.drain = Drain(self.tails.waiters(), seconds, self.random)

    def begin_shutdown(self) -> None:
        """Ends live reads. Long-polls are answered immediately, and event streams end with a last control event."""
        if not self.stopping:
            self.stopping = True
            self._retry_spread = retry_spread(len(self.tails))
            if self.drain is not None:
                self.drain.cancel()
            self._sweep.stop()
            self.tails.wake_all_in_turns()

    async def stop(self) -> None:
        """Ends live reads, waits for running hooks, and detaches the store from the event loop. The store stays open."""
        self.begin_shutdown()
        self.tails.wake_all()  # because no live read may use the store from now on
        await self.hooks.drain()
        self._given_back = True
        if self._started:
            self._started = False
            self.store.detach()

    @property
    def expired(self) -> int:
        """The number of streams that were removed because their lifetime had ended."""
        return self._sweep.expired

    def require_store(self) -> None:
        """Raises an error if the engine no longer has the store. Callers check this after each wait.

        Raises:
            Unavailable: SERVER_STOPPING, the engine has detached the store.
        """
        if self._given_back:
            raise stopping_error()

    def refuse_while_stopping(self, *, is_live: bool) -> None:
        """Refuses a request because the server is stopping, unless it is a live read, which ends at once without an error.

        A browser's EventSource would give up for good on an error.

        Raises:
            Unavailable: SERVER_STOPPING.
        """
        if not is_live:
            raise stopping_error()
        self.require_store()

    def is_last_poll(self, page: Page) -> bool:
        """Returns whether a client should use another connection after the response to a long-poll, because the server drains or stops."""
        return self.stopping or (self.drain is not None and page.start == page.end)

    def retire(self) -> None:
        """Stops listening to the store. It is called when the event loop has ended and another engine takes over the store."""
        self._given_back = True
        self.store.ignore(self._published)

    def create(self, command: Create) -> Ticket[CreateOutcome]:
        """Creates a stream or fork, or confirms that the same one exists. A large JSON body is first split in steps."""
        if bodies.is_ready(command):
            return self._create(command)
        return self._prepared(command).then(self._create)

    def append(self, command: Append) -> Ticket[AppendOutcome]:
        """Appends to a stream, closes the stream, or both."""
        return self.store.execute(command, self.clock())  # type: ignore[return-value]  # faster than `cast`

    def append_large(self, command: Append) -> Ticket[AppendOutcome]:
        """Appends a large JSON body, which is first split in steps."""
        return self._prepared(command).then(self.append)

    def delete(self, path: str, conditions: Conditions | None = None) -> Ticket[DeleteOutcome]:
        """Deletes a stream if the preconditions hold."""
        command = Delete(path, conditions)
        return cast("Ticket[DeleteOutcome]", self.store.execute(command, self.clock()))

    def head(self, path: str) -> Ticket[StreamState]:
        """Finds a stream that readers may see. This does not extend the lifetime of the stream."""
        return self.store.find(path).then(self._require)

    def check_visible(self, path: str) -> None:
        """Raises an error if readers cannot see a stream at a path. Does nothing if the store would have to load the stream first.

        Raises:
            NotFound: no stream is at the path.
            Gone: the stream is deleted and kept for its forks.
            StreamDamaged: the stream's data on disk is damaged.
        """
        found = self.head(path)
        if found.done:
            found.result()

    def find_loaded(self, path: str) -> StreamState | None:
        """Returns the stream at a path, or None if the store has to load the stream first.

        Raises:
            NotFound: no stream is at the path.
            Gone: the stream is deleted and kept for its forks.
            StreamDamaged: the stream's data on disk is damaged.
        """
        found = self.store.find(path)
        return self._visible(found.result()) if found.done else None

    def read(self, read: Read) -> Ticket[Page]:
        """Reads one page without waiting for new data. The offset `now` gives an empty page at the tail."""
        found = self.store.find(read.path)
        if found.done:  # the usual case, which does the same as the code below with fewer calls
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
        """Returns the stream of a read and the byte position at which the read starts. This counts as a use of the stream."""

        def check(found: StreamState | None) -> Ticket[tuple[StreamState, int]]:
            state = self._visible(found)
            checked = self.reader.check(state, position_at(state, read.offset))
            return checked.then(lambda position: begin(state, position))

        def begin(state: StreamState, position: int) -> Ticket[tuple[StreamState, int]]:
            self.touch(self._visible(state))  # the stream may have been deleted during the check
            return Ticket.of((state, position))

        return self.store.find(read.path).then(check)

    def long_poll(self, read: Read, term: Term | None = None, connection: int = 0) -> Ticket[Page]:
        """Reads one page, and waits for data if the offset is at the tail. Cancelling the ticket ends the wait.

        Args:
            read: the stream and the offset.
            term: how long the wait may last at most.
            connection: a number that is the same for all requests of one connection.
        """

        def begin(place: tuple[StreamState, int]) -> Ticket[Page]:
            pending = PendingLongPoll(self, *place, term, connection)
            pending.wake()
            return pending.ticket

        return self.locate(read).then(begin)

    def events(
        self, read: Read, on_ready: Callable[[], None], term: Term | None = None
    ) -> Ticket[EventStream]:
        """Opens an event stream. The caller must close it.

        Args:
            read: the stream, the offset and the client's cursor.
            on_ready: called when the event stream may have new data.
            term: how long the event stream may last at most.
        """
        return self.locate(read).then(
            lambda place: Ticket.of(EventStream(self, *place, read.cursor, on_ready, term))
        )

    def subscribe(self, state: StreamState, waiter: Waiter) -> Group:
        """Wakes a live reader at each change of a stream, and keeps the stream from expiring until `unsubscribe`."""
        return self.tails.subscribe(state, waiter)

    def unsubscribe(self, state: StreamState, waiter: Waiter) -> None:
        """Removes a live reader. The sliding lifetime of the stream restarts now."""
        self.tails.unsubscribe(state, waiter)
        if not state.removed:
            self.touch(state)

    def retry(self) -> bytes:
        """Returns the field `retry:` of the last event, which sets how long a browser waits before it reconnects, or empty bytes."""
        if not self.stopping or not self._retry_spread:
            return b""
        return sse.retry(SSE_RETRY_MS + int(self._retry_spread * self.random()))

    def next_cursor(self, client_cursor: str | None) -> str:
        """Returns the CDN cursor for a live response to a client that sent `client_cursor` (PROTOCOL 10.1)."""
        return self.cursors.after(client_cursor)

    def is_ahead(self, client_cursor: str | None) -> bool:
        """Returns whether a client's cursor belongs to the present interval or a later one.

        The responses to that client then need their own cursors.
        """
        return self.next_cursor(client_cursor) != self.next_cursor(None)

    def _prepared(self, command: C) -> Ticket[C]:
        """Splits the large JSON body of a command in steps, and returns the command that is ready to be decided.

        Raises:
            Unavailable: SERVER_STOPPING, if the engine has detached the store meanwhile.
        """

        def check_store(ready: C) -> Ticket[C]:
            self.require_store()
            return Ticket.of(ready)

        return bodies.prepare(self.store, self.turns, command).then(check_store)

    def _create(self, command: Create) -> Ticket[CreateOutcome]:
        """Creates a stream or fork from a command whose body is ready."""
        resolved = forks.resolve(self.store, self.reader, command, self.clock(), self.turns)
        return resolved.then(self._create_at_once)

    def _create_at_once(self, resolved: Create) -> Ticket[CreateOutcome]:
        """Executes a create with the present time, because the search for the fork's position may have waited for the disk."""
        self.require_store()
        return cast("Ticket[CreateOutcome]", self.store.execute(resolved, self.clock()))

    def _store_failed(self, error: BaseException) -> None:
        self.failure = error
        self.begin_shutdown()
        self.on_failure(error)

    def _require(self, state: StreamState | None) -> Ticket[StreamState]:
        return Ticket.of(self._visible(state))

    def _visible(self, state: StreamState | None) -> StreamState:
        """Returns the state if readers may see the stream.

        Raises:
            NotFound: there is no stream, or it has expired.
            Gone: the stream is deleted and kept for its forks.
            StreamDamaged: the stream's data on disk is damaged.
        """
        now = (
            self.clock() if state is not None and state.mortal else 0
        )  # only expiry needs the time
        return require_visible(state, now)

    def touch(self, state: StreamState) -> None:
        """Records a use of a stream that can expire, which restarts its sliding lifetime."""
        if state.mortal and not self._given_back:
            self.store.touch(state, self.clock())
            self._schedule()

    def _in_line(self, step: Callable[[], None]) -> None:
        """Queues a step of long work, or runs it immediately if the engine has not started."""
        if self._started:
            self.turns.add(step)
        else:
            step()

    def _has_time(self, size: int) -> bool:
        """Returns whether this turn of the loop has time to send `size` bytes."""
        return not self._started or self.turns.has_time(size / _SPEED)

    def _schedule(self) -> None:
        if self._started and not self.stopping:
            self._sweep.schedule()

    def _published(self, published: Sequence[Published]) -> None:
        """Wakes live readers and calls hooks after changes have become durable."""
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
