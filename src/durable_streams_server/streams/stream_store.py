"""`StreamStore`: the memory store with plain functions on it, for code that has no server or shares one's store.

A store that a server runs belongs to the server's event loop. Calls from another thread are handed to that loop and wait for
it; calls from the loop's own thread, or while no loop has the store, go straight in. `calls.py` says which is when.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

from ..errors import NotFound
from ..protocol import offsets
from ..protocol.arguments import DATA, OPTIONAL_INT, require, require_callable
from ..protocol.commands import Command, Create, Delete
from ..protocol.decide import AppendOutcome, Outcome, position_of, require_visible
from ..protocol.json_mode import value_ends
from ..protocol.limits import DEFAULT_MAX_PRODUCERS, DEFAULT_PAGE_SIZE
from ..protocol.media import Kind
from ..protocol.offsets import Sentinel
from ..protocol.page import Page
from ..protocol.paths import check_is_whole
from ..protocol.results import AppendResult
from ..protocol.state import StreamState
from ..protocol.units import SECOND
from ..storage.memory import MemoryStore
from ..storage.store import Store
from ..storage.ticket import Ticket, repeat
from . import forks
from .arguments import CreateOptions, append_options, append_result, create_command
from .calls import Calls
from .clock import Clock, StoreClock, clock_of, system_clock
from .reader import Reader

T = TypeVar("T")

_LOOK_EVERY: Final = SECOND  # between two looks at the wall clock, which dates follow


@dataclass(frozen=True, slots=True)
class Stream:
    """What is known of a stream at one moment.

    Attributes:
        path: its decoded path.
        content_type: as given at creation.
        current_offset: the tail.
        closed: whether it takes no more.
        ttl_seconds: sliding lifetime, if it has one.
        expires_at: deadline as given, if it has one.
        created_at: Unix time in seconds.
        forked_from: the source's path, if it is a fork.
        fork_offset: where it forked, if it is a fork.
        soft_deleted: whether it is deleted and kept for its forks.
    """

    path: str
    content_type: str
    current_offset: str
    closed: bool
    ttl_seconds: int | None
    expires_at: str | None
    created_at: float
    forked_from: str | None
    fork_offset: str | None
    soft_deleted: bool


@dataclass(frozen=True, slots=True)
class StreamMessage:
    """One piece of a stream: a JSON value, or a run of bytes.

    Attributes:
        data: its own bytes.
        offset: the offset after it.
    """

    data: bytes
    offset: str


@dataclass(frozen=True, slots=True)
class ReadResult:
    """What a read found.

    Attributes:
        messages: in order; JSON values one by one, other streams in pages.
        next_offset: where to read on.
        up_to_date: whether that is the tail.
        closed: whether the stream ends there.
    """

    messages: list[StreamMessage]
    next_offset: str
    up_to_date: bool
    closed: bool

    @property
    def data(self) -> bytes:
        """All bytes read; for JSON values, without separators."""
        return b"".join(message.data for message in self.messages)


class SynchronousCalls(Store):
    """The plain functions, for any store that mixes them in and calls `_begin_calls` when it is made.

    Attributes:
        failure: what has stopped the store for good, if anything has.
    """

    failure: BaseException | None = None

    def _begin_calls(self, clock: Clock) -> None:
        self._given_clock = clock
        self._running_clock: StoreClock | None = None
        self._look_at = 0
        self._calls = Calls(self._settle, lambda: self.failure)
        self._told_of_failure: list[Callable[[BaseException], None]] = []

    def attach(
        self, loop: asyncio.AbstractEventLoop, on_failure: Callable[[BaseException], None]
    ) -> None:
        """Gives the store to a loop that runs. Several applications of one loop may share it.

        Raises:
            RuntimeError: another loop has it, or it is closed.
        """
        begin = super().attach

        def take() -> None:
            self._told_of_failure = [on_failure]
            begin(loop, self._tell_of_failure)

        if not self._calls.attach(loop, take, super().detach):
            self._told_of_failure.append(on_failure)
            if self.failure is not None:
                on_failure(self.failure)

    def _tell_of_failure(self, failure: BaseException) -> None:
        for tell in tuple(self._told_of_failure):
            tell(failure)

    def detach(self) -> None:
        self._calls.detach()

    def close(self) -> None:
        """Closes the store; later calls are refused. Closing twice does nothing.

        Raises:
            RuntimeError: an event loop in another thread has the store.
        """
        self._calls.close(super().close)  # type: ignore[safe-super]  # of the store beside this

    def create(
        self,
        path: str,
        content_type: str | None = None,
        options: CreateOptions = CreateOptions(),  # noqa: B008  (frozen)
    ) -> Stream:
        """Creates a stream, or returns the one that is there with the same configuration.

        Raises:
            Conflict: another configuration is at the path.
            NotFound: the stream to fork does not exist.
            BadRequest: a malformed argument.
        """
        command = create_command(path, content_type, options)
        return self._calls.run(lambda: self._create(command))

    def get(self, path: str) -> Stream | None:
        """Returns the stream at a path, soft-deleted ones too; None if there is none or its time has run out.

        Raises:
            BadRequest: INVALID_PATH, for a path that does not begin with a slash.
        """
        require(str, path=path)
        check_is_whole(path)
        return self._calls.run(lambda: self._get(path))

    def has(self, path: str) -> bool:
        """Whether a stream is at the path that can be read and written.

        Raises:
            BadRequest: INVALID_PATH, for a path that does not begin with a slash.
        """
        stream = self.get(path)
        return stream is not None and not stream.soft_deleted

    def delete(self, path: str) -> bool:
        """Deletes a stream; False if there was none.

        Raises:
            BadRequest: INVALID_PATH, for a path that does not begin with a slash.
        """
        require(str, path=path)
        check_is_whole(path)
        try:
            self._calls.run(lambda: self._execute(Delete(path)))
        except NotFound:
            return False
        return True

    def append(
        self,
        path: str,
        data: bytes = b"",
        *,
        content_type: str | None = None,
        seq: str | None = None,
        producer_id: str | None = None,
        producer_epoch: int | None = None,
        producer_seq: int | None = None,
        expected_offset: str | None = None,
        close: bool = False,
    ) -> AppendResult:
        """Appends, closes, or both, and returns when that is durable.

        Args:
            path: the stream's path, which begins with a slash.
            data: bytes; for a JSON stream one value, or an array of values.
            content_type: checked against the stream's, if given.
            seq: `Stream-Seq`, which must be greater than the last.
            producer_id: with epoch and seq, an idempotent producer.
            producer_epoch: the producer's epoch.
            producer_seq: the producer's sequence number.
            expected_offset: the offset that the tail must be at, if given.
            close: whether the stream takes no more after this.

        Raises:
            NotFound, Gone, Conflict, StreamClosed, OffsetMismatch, ProducerFenced, SequenceGap, BadRequest.
        """
        require(str, path=path)
        check_is_whole(path)
        require(DATA, data=data)
        options = append_options(
            content_type, seq, producer_id, producer_epoch, producer_seq, expected_offset, close
        )
        octets = bytes(data)

        def write(state: StreamState) -> Ticket[Outcome]:
            return self._execute(options.command(state, octets))

        outcome = cast(AppendOutcome, self._calls.run(lambda: self._require(path).then(write)))
        return append_result(outcome, len(octets) > 0)

    def read(self, path: str, offset: str = "-1") -> ReadResult:
        """Reads everything from an offset on.

        Raises:
            NotFound, Gone, BadRequest.
        """
        require(str, path=path, offset=offset)
        check_is_whole(path)
        return self._calls.run(lambda: self._read_all(path, offset))

    # -- on the loop --------------------------------------------------------

    def _clock(self) -> int:
        """Returns steady time; looks now and then whether the wall clock was set, since no engine may do so."""
        clock = self._running_clock
        if clock is None:
            clock = self._running_clock = clock_of(self.timeline, self._given_clock)
        now = clock()
        if now >= self._look_at:
            self._look_at = now + _LOOK_EVERY
            if clock.look():
                self.clock_was_set()
        return now

    def _execute(self, command: Command) -> Ticket[Outcome]:
        return self.execute(command, self._clock())

    def _create(self, command: Create) -> Ticket[Stream]:
        return (
            forks.resolve(self, Reader(self), command, self._clock())
            .then(self._execute)
            .then(lambda _: self._require(command.path))
            .then(lambda state: Ticket.of(_stream(state)))
        )

    def _get(self, path: str) -> Ticket[Stream | None]:
        def present(state: StreamState | None) -> Ticket[Stream | None]:
            if state is None or (state.expired(self._clock()) and not state.children):
                return Ticket.of(None)
            return Ticket.of(_stream(state))

        return self.find(path).then(present)

    def _read_all(self, path: str, offset: str) -> Ticket[ReadResult]:
        reader = Reader(self)
        where = offsets.parse_read(offset)
        messages: list[StreamMessage] = []

        def locate(state: StreamState) -> Ticket[ReadResult]:
            if isinstance(where, Sentinel):
                position = 0 if where is Sentinel.START else state.visible_tail
            else:
                position = position_of(state, where)
            self.touch(state, self._clock())
            return reader.check(state, position).then(lambda start: take_all(state, start))

        def take_all(state: StreamState, start: int) -> Ticket[ReadResult]:
            def step() -> Ticket[ReadResult | None]:
                return reader.page(state, start, DEFAULT_PAGE_SIZE).then(add)

            def add(page: Page) -> Ticket[ReadResult | None]:
                nonlocal start
                start = page.end
                messages.extend(_messages(state, page.start, page.data))
                if not page.at_tail:
                    return Ticket.of(None)
                return Ticket.of(ReadResult(messages, state.name(start), True, page.closed))

            return repeat(step)

        return self._require(path).then(locate)

    def _require(self, path: str) -> Ticket[StreamState]:
        return self.find(path).then(lambda state: Ticket.of(require_visible(state, self._clock())))

    def _settle(self, ticket: Ticket[Any]) -> None:
        """Returns when a ticket is done, or the store has failed. A store whose tickets take time overrides this."""
        assert ticket.done


class StreamStore(SynchronousCalls, MemoryStore):
    """Streams in memory, for as long as the process lives.

    Args:
        max_bytes: stream data to hold at most; past it, appends are refused with 507. None for no limit.
        max_producers: idempotent producers per stream; a further one is refused with 429.
        clock: what time it is, in microseconds of Unix time.
    """

    def __init__(
        self,
        *,
        max_bytes: int | None = None,
        max_producers: int = DEFAULT_MAX_PRODUCERS,
        clock: Clock = system_clock,
    ) -> None:
        require(OPTIONAL_INT, max_bytes=max_bytes)
        require(int, max_producers=max_producers)
        require_callable(clock=clock)
        super().__init__(max_bytes=max_bytes, max_producers=max_producers)
        self._begin_calls(clock)


def _stream(state: StreamState) -> Stream:
    return Stream(
        path=state.path,
        content_type=state.media.text,
        current_offset=state.name(state.visible_tail),
        closed=state.visible_closed,
        ttl_seconds=state.lifetime.ttl,
        expires_at=state.lifetime.expires_text,
        created_at=(state.created_at + state.timeline.offset) / SECOND,
        forked_from=state.origin.source if state.origin else None,
        fork_offset=state.origin.anchor if state.origin else None,
        soft_deleted=state.visible_soft_deleted,
    )


def _messages(state: StreamState, start: int, data: bytes) -> Iterator[StreamMessage]:
    if not data:
        return
    if state.media.kind is not Kind.JSON:
        yield StreamMessage(data, state.name(start + len(data)))
        return
    begin = 0
    for end in value_ends(data):
        yield StreamMessage(data[begin : end - 1], state.name(start + end))
        begin = end
