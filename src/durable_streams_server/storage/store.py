"""The contract of every store, which executes commands and returns tickets for their outcomes.

A store calls `decide` on its newest states, and makes each decision durable as one record before it resolves the decision's ticket. From
`attach` on, one event loop owns the store: every method is called on that loop's thread, and every ticket resolves on that thread.
"""

import asyncio
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from ..log import log as _log
from ..protocol.commands import Command
from ..protocol.decisions.outcomes import Outcome
from ..protocol.decisions.quota import Quota, Usage
from ..protocol.names import DEFAULT_STREAM_ROOT
from ..protocol.registry import Registry
from ..protocol.state import Change, StreamState
from ..protocol.subscriptions.state import Subscriptions
from ..protocol.timeline import Timeline
from .ordered import smallest
from .slow_work import SlowWork
from .ticket import Abandoned, Ticket


class Published(msgspec.Struct, frozen=True, gc=False):
    """One durable change.

    Attributes:
        change: the change.
        state: the state of the changed stream; None if the change is about a subscription.
    """

    change: Change
    state: StreamState | None


Listener = Callable[[Sequence[Published]], None]


class Listeners:
    """Keeps the functions that a store calls with durable changes. An exception in a listener is logged, and the others are still called."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    def add(self, listener: Listener) -> None:
        """Adds a listener, which is called with the changes of every record from now on."""
        self._listeners.append(listener)

    def remove(self, listener: Listener) -> None:
        """Removes a listener. Does nothing if the listener was removed before."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    def clear(self) -> None:
        """Removes every listener."""
        self._listeners.clear()

    def tell(self, published: Sequence[Published]) -> None:
        """Calls every listener with the changes of one or more records."""
        for listener in self._listeners:
            try:
                listener(published)
            except Exception:
                _log.exception("a listener of the store failed")


def new_opening() -> str:
    """Returns a random name for one opening of a store, which no other opening of any store has."""
    return secrets.token_hex(6)


class Marks(NamedTuple):
    """The marks around a position in a stream's own bytes. A mark is a position where a page may be cut without parsing.

    Attributes:
        lower: the last mark at or before the position.
        upper: the first mark after the position, or the tail.
        append_end: the end of the append that holds the byte at the position, or the tail.
    """

    lower: int
    upper: int
    append_end: int


class Store(ABC):
    """The contract of a store. The tests in `tests/storage/contract.py` check every store against it.

    Every argument `now` is steady time in microseconds, on the store's own timeline.

    Attributes:
        subscriptions: the newest states of all subscriptions, and the server's keys.
        timeline: the store's steady time.
        quota: the limits of streams and bytes, as `limit` has set them.
        failure: the error that stopped the store for good; None while it works.
        slow_work: the pieces of work that took long. Stores that have none of their own share one object.
    """

    subscriptions: Subscriptions
    timeline: Timeline
    quota: Quota = Quota()
    failure: BaseException | None = None
    slow_work: SlowWork = SlowWork()

    @abstractmethod
    def configure(self, registry: Registry | None, stream_root: str = DEFAULT_STREAM_ROOT) -> None:
        """Sets the registry stream, and the root path of the patterns of subscriptions. Call it before the first command.

        Raises:
            ValueError: the stream at the registry's path cannot serve as the registry.
        """

    @abstractmethod
    def limit(self, quota: Quota) -> None:
        """Sets the limits of streams and bytes, from the next command on.

        If the store has more than a limit allows, it keeps everything, and refuses only what would add to it.
        """

    @property
    @abstractmethod
    def usage(self) -> Usage:
        """The number of streams and of their bytes, which `limit` bounds. Records in flight count."""

    @abstractmethod
    def listen(self, listener: Listener) -> None:
        """Adds a listener. The store calls it with the changes of each durable record, before the record's ticket resolves."""

    @abstractmethod
    def ignore(self, listener: Listener) -> None:
        """Removes a listener."""

    def attach(
        self, loop: asyncio.AbstractEventLoop, on_failure: Callable[[BaseException], None]
    ) -> None:
        """Gives the store to a running event loop. A store that does all its work inside each call needs no loop.

        Args:
            loop: the event loop that owns the store from now on.
            on_failure: called on the loop if an error stops the store for good. Tickets that are open then fail with Abandoned, because nobody
                can know whether their commands became durable.
        """

    def detach(self) -> None:
        """Takes the store back from its event loop once every ticket is resolved. Call it on the loop's thread."""

    @property
    def is_busy(self) -> bool:
        """Whether another thread is writing or reading, and tickets wait for it."""
        return False

    @abstractmethod
    def execute(self, command: Command, now: int) -> Ticket[Outcome]:
        """Decides a command on the newest state. The ticket resolves once the outcome and every change that it depends on are durable.

        If the store refuses the command, the ticket fails with a StreamError and nothing has changed.
        """

    def probe(self) -> Ticket[None]:
        """Makes a write that changes nothing as durable as an append. The ticket resolves once it is durable.

        Health checks call this. A store that does all its work inside each call needs no write.

        The ticket fails with a StreamError if the store would refuse an append now, and with Abandoned if the store has stopped.
        """
        return Ticket.of(None) if self.failure is None else Ticket.failed(Abandoned(self.failure))

    @abstractmethod
    def find(self, path: str) -> Ticket[StreamState | None]:
        """Looks up the stream that readers may see at a path. Soft-deleted and expired streams are returned too."""

    @abstractmethod
    def read_bytes(self, incarnation: int, start: int, end: int) -> Ticket[bytes]:
        """Reads an incarnation's own wire bytes.

        Args:
            incarnation: the stream's incarnation.
            start: the position of the first byte, not before the incarnation's base.
            end: the position after the last byte, not past the visible tail.
        """

    @abstractmethod
    def marks(self, incarnation: int, position: int) -> Ticket[Marks]:
        """Looks up the marks around a position of an incarnation's own bytes."""

    @abstractmethod
    def touch(self, state: StreamState, now: int) -> None:
        """Restarts the sliding lifetime of a stream because it was read. A HEAD request does not count as a read."""

    @abstractmethod
    def due(self, now: int) -> Sequence[tuple[str, int]]:
        """Returns the paths and incarnations of streams whose lifetime has ended, at most a bounded number per call.

        Each stream is returned once, and again later if its lifetime was extended.
        """

    @abstractmethod
    def next_deadline(self) -> int | None:
        """Returns the steady time in microseconds at which `due` may next return a stream; None while no stream expires."""

    def clock_was_set(self) -> None:
        """Makes the timeline's new offset durable soon, because the wall clock was set."""

    @abstractmethod
    def paths(self) -> Iterator[str]:
        """Iterates over the paths of all visible streams that are not soft-deleted, in no particular order.

        Streams may be created and deleted during the iteration. The path of a stream that exists throughout is returned exactly once.
        """

    def ordered_paths(self, prefix: str, after: str, limit: int) -> Iterator[str | None]:
        """Iterates over the first paths in order that begin with `prefix` and come after `after`, of streams as in `paths`.

        It yields None after each short step that has found no path, so that the caller can let other work run.

        Args:
            prefix: what the paths begin with.
            after: the path after which the iteration begins.
            limit: maximum number of paths.
        """
        yield from (yield from smallest(self.paths(), prefix, after, limit))

    @abstractmethod
    def close(self) -> None:
        """Closes the store. All acknowledged changes are durable. No method may be called afterwards."""
