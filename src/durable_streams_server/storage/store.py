"""What every store promises. Commands go in, tickets come out.

A store runs `decide` where the state lives and makes each decision durable as one record before its ticket resolves. It is
owned by one event loop from `attach` on: every method is called on that loop's thread, and every ticket resolves there.
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
from ..protocol.names import DEFAULT_STREAM_ROOT
from ..protocol.registry import Registry
from ..protocol.state import Change, StreamState
from ..protocol.subscriptions.state import Subscriptions
from ..protocol.timeline import Timeline
from .ticket import Ticket


class Published(msgspec.Struct, frozen=True, gc=False):
    """One change that has become durable, and the state of the stream it names; None for a change of a subscription."""

    change: Change
    state: StreamState | None


Listener = Callable[[Sequence[Published]], None]


class Listeners:
    """Who hears of durable changes. An exception of one is logged, and the others hear all the same."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    def add(self, listener: Listener) -> None:
        """Has a listener called with the changes of every record from now on."""
        self._listeners.append(listener)

    def remove(self, listener: Listener) -> None:
        """Forgets a listener. One that is forgotten already is no error."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    def clear(self) -> None:
        """Forgets every listener."""
        self._listeners.clear()

    def tell(self, published: Sequence[Published]) -> None:
        """Calls every listener."""
        for listener in self._listeners:
            try:
                listener(published)
            except Exception:
                _log.exception("a listener of the store failed")


def new_opening() -> str:
    """Returns the name of one opening of a store, which no other opening of any store has."""
    return secrets.token_hex(6)


class Marks(NamedTuple):
    """The places around a position in a stream's own bytes where a page may be cut without parsing.

    Attributes:
        lower: the last mark at or before the position.
        upper: the first mark after it, or the tail.
        append_end: where the append that holds the byte at the position ends, or the tail.
    """

    lower: int
    upper: int
    append_end: int


class Store(ABC):
    """The contract. `tests/storage/contract.py` holds every store to it.

    Every `now` is steady time in microseconds, on the store's own timeline.

    Attributes:
        subscriptions: the newest states of all subscriptions, and the server's keys.
        timeline: the store's steady time.
        failure: the error that stopped the store for good; None while it works.
    """

    subscriptions: Subscriptions
    timeline: Timeline
    failure: BaseException | None = None

    @abstractmethod
    def configure(self, registry: Registry | None, stream_root: str = DEFAULT_STREAM_ROOT) -> None:
        """Names the registry stream, and the root that subscriptions' patterns are below, before the first command.

        Raises:
            ValueError: when the stream at its path cannot serve as one.
        """

    @abstractmethod
    def listen(self, listener: Listener) -> None:
        """Has `listener` called with the changes of each record once it is durable, before the record's ticket resolves."""

    @abstractmethod
    def ignore(self, listener: Listener) -> None:
        """Calls a listener no more."""

    def attach(
        self, loop: asyncio.AbstractEventLoop, on_failure: Callable[[BaseException], None]
    ) -> None:
        """Gives the store to a loop that runs. If it stops for good, `on_failure` is called there, and no ticket that is
        open then is ever resolved: nobody can know whether its command has become durable. A store that does all its work when it is
        called needs no loop."""

    def detach(self) -> None:
        """Takes the store back from its loop, on the loop; every ticket is resolved first."""

    @property
    def is_busy(self) -> bool:
        """Whether another thread writes or reads what tickets wait for."""
        return False

    @abstractmethod
    def execute(self, command: Command, now: int) -> Ticket[Outcome]:
        """Decides a command on the newest state and resolves when what the outcome rests on is durable.

        The ticket fails with a StreamError when the command is refused; nothing has changed then.
        """

    @abstractmethod
    def find(self, path: str) -> Ticket[StreamState | None]:
        """Looks up the stream that readers may see at a path: soft-deleted and expired ones too."""

    @abstractmethod
    def read_bytes(self, incarnation: int, start: int, end: int) -> Ticket[bytes]:
        """Reads an incarnation's own wire bytes; `start` is not before its base nor `end` past its visible tail."""

    @abstractmethod
    def marks(self, incarnation: int, position: int) -> Ticket[Marks]:
        """Looks up the marks around a position of an incarnation's own bytes."""

    @abstractmethod
    def touch(self, state: StreamState, now: int) -> None:
        """Notes a read, which begins a sliding lifetime anew. HEAD does not touch."""

    @abstractmethod
    def due(self, now: int) -> Sequence[tuple[str, int]]:
        """Returns path and incarnation of streams whose time has run out, a bounded number; each is returned once, and
        again later if it turns out to live longer."""

    @abstractmethod
    def next_deadline(self) -> int | None:
        """Returns when `due` may next have something, in microseconds of steady time; None while nothing expires."""

    def clock_was_set(self) -> None:
        """Hears that the wall clock was set: the timeline's offset is another. What is kept of it should soon be durable."""

    @abstractmethod
    def paths(self) -> Iterator[str]:
        """Iterates over the paths of all visible streams that are not soft-deleted, in no order.

        Streams may come and go while it is iterated over: each that is there all the time is named once.
        """

    @abstractmethod
    def close(self) -> None:
        """Ends the store. What was acknowledged is durable; nothing may be called any more."""
