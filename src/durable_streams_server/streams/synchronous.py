"""`SynchronousStore`: the plain functions of a store, which any thread may call and which return when their change is durable.

Every public store inherits from this class and from a store of `storage/`, so the functions are the same wherever the streams are kept.
A store that a server runs belongs to the server's event loop. Calls from another thread are passed to that loop and wait for it. Calls
from the loop's own thread, or while no loop has the store, run immediately. `calls.py` decides between these cases.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, cast

from ..errors import NotFound
from ..protocol import offsets
from ..protocol.arguments import DATA, require
from ..protocol.commands import Command, Create, Delete
from ..protocol.decisions.outcomes import AppendOutcome, Outcome
from ..protocol.existing import require_visible
from ..protocol.limits import DEFAULT_PAGE_SIZE
from ..protocol.page import Page
from ..protocol.paths import check_is_whole
from ..protocol.results import AppendResult
from ..protocol.state import StreamState
from ..protocol.units import SECOND
from ..storage.store import Store
from ..storage.ticket import Ticket, repeat
from . import forks
from .arguments import CreateOptions, append_options, create_command
from .calls import Calls
from .clock import Clock, StoreClock, clock_of
from .reader import Reader, position_at
from .results import ReadResult, Stream, StreamMessage, append_result, messages_of, stream_of

#: Time between two checks whether the wall clock was set. Deadlines follow the wall clock.
_CHECK_INTERVAL: Final = SECOND


class SynchronousStore(Store):
    """The plain functions of a public store.

    A public store inherits from this class and from a store, in this order, and calls `_begin_calls` in its constructor.
    """

    def _begin_calls(self, clock: Clock) -> None:
        """Prepares the store for calls. The clock may be set while the store is in use if it also counts ticks."""
        self._given_clock = clock
        self._running_clock: StoreClock | None = None
        self._next_check = 0
        self._calls = Calls(self._settle, lambda: self.failure)
        self._on_failure: list[Callable[[BaseException], None]] = []

    def attach(
        self, loop: asyncio.AbstractEventLoop, on_failure: Callable[[BaseException], None]
    ) -> None:
        """Gives the store to an event loop. Several applications on that loop may share the store.

        Args:
            loop: the running event loop.
            on_failure: called on the loop with the error if the store stops for good.

        Raises:
            RuntimeError: another event loop has the store, or the store is closed.
        """
        begin = super().attach

        def take() -> None:
            self._on_failure = [on_failure]
            begin(loop, self._report_failure)

        if not self._calls.attach(loop, take, super().detach):
            self._on_failure.append(on_failure)
            if self.failure is not None:
                on_failure(self.failure)

    def _report_failure(self, failure: BaseException) -> None:
        for tell in tuple(self._on_failure):
            tell(failure)

    def detach(self) -> None:
        """Takes the store back from its event loop when the last application on that loop detaches."""
        self._calls.detach()

    def close(self) -> None:
        """Closes the store. Later calls raise RuntimeError. Closing twice does nothing.

        Raises:
            RuntimeError: an event loop in another thread has the store.
        """
        self._calls.close(super().close)  # type: ignore[safe-super]  # the other base class, a store, implements `close`

    def create(
        self,
        path: str,
        content_type: str | None = None,
        options: CreateOptions = CreateOptions(),  # noqa: B008  (the default is immutable)
    ) -> Stream:
        """Creates a stream, or returns the existing stream if it has the same configuration.

        Raises:
            Conflict: a stream with another configuration is at the path.
            NotFound: the stream to fork does not exist.
            BadRequest: an argument is malformed.
        """
        command = create_command(path, content_type, options)
        return self._calls.run(lambda: self._create(command))

    def get(self, path: str) -> Stream | None:
        """Returns the stream at a path, or None if there is no stream or it has expired. Soft-deleted streams are returned too.

        Raises:
            BadRequest: INVALID_PATH, the path does not begin with a slash.
        """
        require(str, path=path)
        check_is_whole(path)
        return self._calls.run(lambda: self._get(path))

    def has(self, path: str) -> bool:
        """Returns whether a stream that can be read is at the path.

        Raises:
            BadRequest: INVALID_PATH, the path does not begin with a slash.
        """
        stream = self.get(path)
        return stream is not None and not stream.soft_deleted

    def delete(self, path: str) -> bool:
        """Deletes a stream. Returns False if there was no stream at the path.

        Raises:
            BadRequest: INVALID_PATH, the path does not begin with a slash.
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
        """Appends to a stream, closes the stream, or both. Returns when the change is durable.

        Args:
            path: the path of the stream, which begins with a slash.
            data: the bytes to append. A JSON stream takes one value, or an array of values.
            content_type: if given, it must equal the content type of the stream.
            seq: a `Stream-Seq` value, which must be greater than the last one.
            producer_id: the id of an idempotent producer. Epoch and sequence number must be given too.
            producer_epoch: the epoch of the producer.
            producer_seq: the sequence number of this append.
            expected_offset: if given, it must equal the tail.
            close: whether to close the stream after the append.

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
        """Reads all data from an offset to the tail.

        Args:
            path: the path of the stream.
            offset: an offset that the store has returned, `-1` for the start, or `now` for the tail.

        Raises:
            NotFound, Gone, BadRequest.
        """
        require(str, path=path, offset=offset)
        check_is_whole(path)
        return self._calls.run(lambda: self._read_all(path, offset))

    # -- where the store may be called --------------------------------------------------------

    def _clock(self) -> int:
        """Returns steady time in microseconds. Checks every second whether the wall clock was set, because no engine may be running."""
        clock = self._running_clock
        if clock is None:
            clock = self._running_clock = clock_of(self.timeline, self._given_clock)
        now = clock()
        if now >= self._next_check:
            self._next_check = now + _CHECK_INTERVAL
            if clock.detect_step():
                self.clock_was_set()
        return now

    def _execute(self, command: Command) -> Ticket[Outcome]:
        return self.execute(command, self._clock())

    def _create(self, command: Create) -> Ticket[Stream]:
        return (
            forks.resolve(self, Reader(self), command, self._clock())
            .then(self._execute)
            .then(lambda _: self._require(command.path))
            .then(lambda state: Ticket.of(stream_of(state)))
        )

    def _get(self, path: str) -> Ticket[Stream | None]:
        def show(state: StreamState | None) -> Ticket[Stream | None]:
            if state is None or (state.expired(self._clock()) and not state.children):
                return Ticket.of(None)
            return Ticket.of(stream_of(state))

        return self.find(path).then(show)

    def _read_all(self, path: str, offset: str) -> Ticket[ReadResult]:
        reader = Reader(self)
        where = offsets.parse_read(offset)
        messages: list[StreamMessage] = []

        def locate(state: StreamState) -> Ticket[ReadResult]:
            position = position_at(state, where)
            self.touch(state, self._clock())
            return reader.check(state, position).then(lambda start: read_pages(state, start))

        def read_pages(state: StreamState, start: int) -> Ticket[ReadResult]:
            def step() -> Ticket[ReadResult | None]:
                return reader.page(state, start, DEFAULT_PAGE_SIZE).then(add)

            def add(page: Page) -> Ticket[ReadResult | None]:
                nonlocal start
                start = page.end
                messages.extend(messages_of(page))
                if not page.at_tail:
                    return Ticket.of(None)
                return Ticket.of(ReadResult(messages, state.name(start), True, page.closed))

            return repeat(step)

        return self._require(path).then(locate)

    def _require(self, path: str) -> Ticket[StreamState]:
        return self.find(path).then(lambda state: Ticket.of(require_visible(state, self._clock())))

    def _settle(self, ticket: Ticket[Any]) -> None:
        """Waits until a ticket is done or the store has failed. Stores whose tickets resolve later override this method."""
        assert ticket.done
