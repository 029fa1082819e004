"""`Streams`: an application's streams, for the program that it runs in. Asynchronous, on the application's own event loop, without threads.

    await app.streams.create("/answers/1", "application/json")
    await app.streams.append("/answers/1", b'"Hello"')
    async for page in app.streams.follow("/answers/1"):
        print(page.json())

The rules are those of HTTP, and so are the errors (`errors.py`). Every call that writes returns when what it wrote is durable.
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
    """The streams of one application. A path is the decoded path below the application's mount, such as `/chat/1`.

    It may be used before the first request, and only on the event loop that the application runs on. It asks no `guard`, and
    writes where HTTP may not, as with `read_only`.

    Every method raises:
        TypeError: an argument of the wrong type; nothing is done then.
        RuntimeError: called on another event loop than the application's.
        BadRequest: a malformed argument.
        NotFound: no stream is at the path; RESERVED_PATH for one of the server's own.
        Gone: the stream is deleted and kept for its forks.
        StreamDamaged: what the disk holds of the stream is damaged.
        Unavailable: SERVER_STOPPING, once the application has been stopped.
        OSError: the disk has failed, and the store has stopped for good. Nobody knows then whether a write was durable.
    """

    def __init__(self, running: Callable[[], Engine]) -> None:
        self._running = running  # starts the engine if nobody has, and returns it

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
    ) -> CreateResult:
        """Creates a stream or a fork, or confirms the one that is there with the same configuration.

        Args:
            path: the stream's path.
            content_type: its content type; `application/octet-stream`, or the source's of a fork, if None.
            ttl_seconds: sliding lifetime; excludes `expires_at`.
            expires_at: deadline, with a time zone.
            initial_data: the first bytes, or JSON values.
            closed: whether the stream is complete with that.
            forked_from: the path of the stream to fork.
            fork_offset: where to fork it; its tail if None.
            fork_sub_offset: bytes, or JSON values, past `fork_offset`.

        Raises:
            Conflict: another configuration is at the path.
        """
        options = CreateOptions(
            ttl_seconds,
            expires_at,
            initial_data,
            closed,
            forked_from,
            fork_offset,
            fork_sub_offset,
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
        """Appends, closes, or both, and returns when that is durable. A caller that is cancelled meanwhile does not take it back.

        Args:
            path: the stream's path.
            data: bytes; for a JSON stream one value, or an array of values.
            content_type: checked against the stream's, if given.
            seq: `Stream-Seq`, which must be greater than the last.
            producer_id: with epoch and seq, an idempotent producer: a repeated append is recognised and not written again.
            producer_epoch: the producer's epoch.
            producer_seq: the producer's sequence number.
            expected_offset: the offset that the tail must be at, if given.
            close: whether the stream takes no more after this.

        Raises:
            StreamClosed: the stream takes no more.
            OffsetMismatch: the tail is not at `expected_offset`.
            ProducerFenced: a newer epoch of the producer is active.
            SequenceGap: the producer skipped a number.
            Conflict: the content type is not the stream's, or `seq` is not greater than the last.
            TooManyRequests: the stream has too many producers.
            StorageFull: there is no room.
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
        """Closes a stream, with last data if there is any: `append` with `close=True`. To close twice is no error."""
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
        """Deletes a stream. If it has forks, it is gone for readers and kept for the forks."""
        require(str, path=path)
        engine = await self._begin(path, Line.URGENT)
        await write_result(engine.delete(path))

    async def head(self, path: str) -> HeadResult:
        """Returns what is known of a stream. A sliding lifetime does not begin anew."""
        require(str, path=path)
        engine = await self._begin(path, Line.READS)
        state = await read_result(engine.head(path))
        return head_result(state)

    async def read(self, path: str, offset: str = _START) -> StreamPage:
        """Reads one page: at most the application's `page_size` bytes, or one append (of JSON, one value) that is larger.

        Args:
            path: the stream's path.
            offset: an offset that the server has given out, `-1` for the beginning, or `now` for the tail.
        """
        where = self._parsed(path, offset)
        engine = await self._begin(path, Line.READS)
        state, position = await read_result(engine.locate(where))
        if state.visible_tail - position >= LARGE:
            await engine.turns.wait_turn()
            engine.require_store()
            require_visible(state, engine.clock())
        # What the program holds is its own: a reader without a budget counts it against no client.
        return stream_page(
            await read_result(Reader(engine.store).page(state, position, engine.options.page_size))
        )

    def follow(self, path: str, offset: str = _START) -> AsyncIterator[StreamPage]:
        """Returns what is in the stream from an offset on, and then what comes, page by page until the stream is closed.

        Each page has data. Between two pages nothing is held but the position, so a loop that is slow, or is left, costs nothing:
        what came meanwhile is read in pages of at most 256 KiB, or one append (of JSON, one value) that is larger. A page ends where an
        append does. To go on later, or after a restart, follow from the last page's `next_offset`.

        Args:
            path: the stream's path.
            offset: as `read` has it.

        Raises:
            NotFound, Gone: while it is followed: the stream is deleted, or its time has run out.
            Unavailable: SERVER_STOPPING, as soon as the application stops.
        """
        return Follower(self._begin, self._parsed(path, offset))

    def _parsed(self, path: str, offset: str) -> commands.Read:
        require(str, path=path, offset=offset)
        return commands.Read(path, offsets.parse_read(offset))

    async def _begin(self, path: str, line: Line) -> Engine:
        """Returns the engine that runs, when a call's turn has come: at once, unless the loop is busy."""
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
