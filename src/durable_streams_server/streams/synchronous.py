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
from ..protocol.decide import AppendOutcome, Outcome, require_visible
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

_CHECK_INTERVAL: Final = (
    SECOND  # between two checks whether the wall clock was set, because dates follow it
)


class SynchronousStore(Store):
    """The plain functions, for any store that mixes them in and calls `_begin_calls` when it is made.

    Attributes:
        failure: what has stopped the store for good, if anything has.
    """

    failure: BaseException | None = None

    def _begin_calls(self, clock: Clock) -> None:
        self._given_clock = clock
        self._running_clock: StoreClock | None = None
        self._next_check = 0
        self._calls = Calls(self._settle, lambda: self.failure)
        self._on_failure: list[Callable[[BaseException], None]] = []

    def attach(
        self, loop: asyncio.AbstractEventLoop, on_failure: Callable[[BaseException], None]
    ) -> None:
        """Gives the store to a loop that runs. Several applications of one loop may share it.

        Raises:
            RuntimeError: another loop has it, or it is closed.
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
        def present(state: StreamState | None) -> Ticket[Stream | None]:
            if state is None or (state.expired(self._clock()) and not state.children):
                return Ticket.of(None)
            return Ticket.of(stream_of(state))

        return self.find(path).then(present)

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
        """Returns when a ticket is done, or the store has failed. A store whose tickets take time overrides this."""
        assert ticket.done
