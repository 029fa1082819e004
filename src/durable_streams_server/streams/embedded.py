"""`Streams`: the asynchronous interface for a program that runs the application itself. It needs neither HTTP nor threads.

    await app.streams.create("/answers/1", "application/json")
    await app.streams.append("/answers/1", b'"Hello"')
    async for page in app.streams.follow("/answers/1"):
        print(page.json())

The rules and the errors (`errors.py`) are the same as over HTTP. Every call that writes returns when its change is durable.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Final

from ..protocol import commands, offsets
from ..protocol.arguments import DATA, require
from ..protocol.decisions.outcomes import AppendOutcome
from ..protocol.existing import require_visible
from ..protocol.paths import check_path, normalize_root, refuse_reserved
from ..protocol.results import AppendResult, CreateResult, HeadResult, StreamPage
from ..protocol.state import StreamState
from ..storage.ticket import Ticket
from .arguments import CreateOptions, append_options, create_command
from .engine import Engine
from .follower import Follower
from .large import LARGE
from .reader import Reader
from .results import append_result, head_result, stream_page
from .tickets import read_result, write_result
from .turns import Line

_START: Final = offsets.Sentinel.START.value


class Streams:
    """Reads and writes the streams of one application. A path is the decoded path below the mount of the application, such as `/chat/1`.

    The methods may be called before the first request, but only on the event loop that the application runs on. They do not call the
    application's `guard`, and they may write even if `read_only` is set.

    Every method raises:
        TypeError: an argument has the wrong type. Nothing was changed.
        RuntimeError: the method was called on another event loop than the application's.
        BadRequest: an argument is malformed.
        NotFound: no stream is at the path. The code is RESERVED_PATH if the path belongs to the server.
        Gone: the stream is deleted and kept for its forks.
        StreamDamaged: the stream's data on disk is damaged.
        Unavailable: SERVER_STOPPING, the application has been stopped.
        OSError: the disk has failed, and the store has stopped for good. It is unknown whether a write was durable.
    """

    def __init__(self, running: Callable[[], Engine]) -> None:
        self._running = running  # returns the engine, which it starts if necessary

    async def create(
        self,
        path: str,
        content_type: str | None = None,
        *,
        ttl_seconds: int | None = None,
        expires_at: datetime | None = None,
        initial_data: bytes = b"",
        closed: bool = False,
        forked_from: str | None = None,
        fork_offset: str | None = None,
        fork_sub_offset: int = 0,
        public: bool = False,
    ) -> CreateResult:
        """Creates a stream or a fork, or confirms that a stream with the same configuration exists.

        Args:
            path: the path of the stream.
            content_type: the content type. If it is None, a fork gets the content type of its source, and any other stream
                `application/octet-stream`.
            ttl_seconds: sliding lifetime in seconds. It cannot be combined with `expires_at`.
            expires_at: deadline, with a time zone.
            initial_data: the first bytes of the stream. For a JSON stream, one value or an array of values.
            closed: whether to close the stream after the initial data.
            forked_from: path of the stream to fork.
            fork_offset: offset at which to fork the source; its tail if None.
            fork_sub_offset: number of bytes, or of JSON values, after `fork_offset` at which to fork the source.
            public: whether anyone may read the stream without a token. A fork does not inherit this from its source.

        Raises:
            Conflict: a stream with another configuration is at the path.
        """
        options = CreateOptions(
            ttl_seconds,
            expires_at,
            initial_data,
            closed,
            forked_from,
            fork_offset,
            fork_sub_offset,
            public,
        )
        command = create_command(path, content_type, options, commands.begin_body)
        engine = await self._begin(path, Line.URGENT)
        if command.fork is not None:
            refuse_reserved(command.fork.source, normalize_root(engine.options.stream_root))
        outcome = await write_result(engine.create(command))
        return CreateResult(
            outcome.created, outcome.next_offset, outcome.media.text, outcome.closed
        )

    async def append(
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

        The change is still made if the calling task is cancelled meanwhile.

        Args:
            path: the path of the stream.
            data: the bytes to append. A JSON stream takes one value, or an array of values.
            content_type: if given, it must equal the content type of the stream.
            seq: a `Stream-Seq` value, which must be greater than the last one.
            producer_id: the id of an idempotent producer. A repeated append with the same epoch and sequence number is not written again.
            producer_epoch: the epoch of the producer.
            producer_seq: the sequence number of this append.
            expected_offset: if given, it must equal the tail.
            close: whether to close the stream after the append.

        Raises:
            StreamClosed: the stream is closed.
            OffsetMismatch: the tail is not `expected_offset`.
            ProducerFenced: a newer epoch of the producer is active.
            SequenceGap: the producer skipped a sequence number.
            Conflict: the content type is not that of the stream, or `seq` is not greater than the last one.
            TooManyRequests: the stream has too many producers.
            StorageFull: the store has no room for the data.
        """
        require(str, path=path)
        require(DATA, data=data)
        options = append_options(
            content_type, seq, producer_id, producer_epoch, producer_seq, expected_offset, close
        )
        octets = bytes(data)
        engine = await self._begin(path, Line.URGENT)

        def write(state: StreamState) -> Ticket[AppendOutcome]:
            engine.require_store()
            command = options.command(state, octets, commands.begin_body)
            if command.body.splitting is None:
                return engine.append(command)
            return engine.append_large(command)

        outcome = await write_result(engine.head(path).then(write))
        return append_result(outcome, len(octets) > 0)

    async def close(
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
    ) -> AppendResult:
        """Closes a stream, optionally with last data. It is `append` with `close=True`. Closing a closed stream without data is no error."""
        return await self.append(
            path,
            data,
            content_type=content_type,
            seq=seq,
            producer_id=producer_id,
            producer_epoch=producer_epoch,
            producer_seq=producer_seq,
            expected_offset=expected_offset,
            close=True,
        )

    async def delete(self, path: str) -> None:
        """Deletes a stream. If the stream has forks, readers can no longer see it, but its data is kept for the forks."""
        require(str, path=path)
        engine = await self._begin(path, Line.URGENT)
        await write_result(engine.delete(path))

    async def head(self, path: str) -> HeadResult:
        """Returns the properties of a stream. This does not extend a sliding lifetime."""
        require(str, path=path)
        engine = await self._begin(path, Line.READS)
        state = await read_result(engine.head(path))
        return head_result(state)

    async def read(self, path: str, offset: str = _START) -> StreamPage:
        """Reads one page of at most `page_size` bytes, as set for the application. A larger append, or JSON value, is a page of its own.

        Args:
            path: the path of the stream.
            offset: an offset that the server has returned, `-1` for the start, or `now` for the tail.
        """
        where = self._parse_read(path, offset)
        engine = await self._begin(path, Line.READS)
        state, position = await read_result(engine.locate(where))
        if state.visible_tail - position >= LARGE:
            await engine.turns.wait_turn()
            engine.require_store()
            require_visible(state, engine.clock())
        # This reader has no send budget, because the page is held by the program and not by a client.
        return stream_page(
            await read_result(Reader(engine.store).page(state, position, engine.options.page_size))
        )

    def follow(self, path: str, offset: str = _START) -> AsyncIterator[StreamPage]:
        """Returns an asynchronous iterator over the pages of a stream, which waits for new data until the stream is closed.

        Each page has data and ends where an append ends. A page has at most 256 KiB, but a larger append, or JSON value, is a page of its
        own. Between two pages the iterator holds nothing but the position, so the program may read slowly, or leave its loop at any time. To
        continue later, or after a restart, follow from `next_offset` of the last page.

        Args:
            path: the path of the stream.
            offset: an offset that the server has returned, `-1` for the start, or `now` for the tail.

        Raises:
            NotFound, Gone: the stream was deleted or has expired. The iterator raises this.
            Unavailable: SERVER_STOPPING, the application is stopping. The iterator raises this.
        """
        return Follower(self._begin, self._parse_read(path, offset))

    def _parse_read(self, path: str, offset: str) -> commands.Read:
        require(str, path=path, offset=offset)
        return commands.Read(path, offsets.parse_read(offset))

    async def _begin(self, path: str, line: Line) -> Engine:
        """Waits until it is the turn of a call, and returns the running engine. The wait is only necessary while the event loop is busy."""
        check_path(path)
        engine = self._running()
        refuse_reserved(path, normalize_root(engine.options.stream_root))
        engine.require_store()
        if engine.loop is not asyncio.get_running_loop():
            raise RuntimeError(
                "the streams belong to another event loop: use them on the loop that the application runs on"
            )
        if not engine.turns.admits(line is Line.READS):
            await engine.turns.wait_turn(line)
            engine.require_store()
        return engine
