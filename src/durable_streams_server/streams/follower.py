"""`Follower`: an asynchronous iterator over the pages of one stream, which waits at the tail for more data. `Streams.follow` returns it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from ..protocol import commands
from ..protocol.existing import require_visible
from ..protocol.limits import FOLLOW_PAGE_SIZE
from ..protocol.results import StreamPage
from ..protocol.state import StreamState
from .draining import Drain
from .engine import Engine, stopping_error
from .reader import Reader
from .results import stream_page
from .tickets import read_result
from .turns import Line


class Follower(AsyncIterator[StreamPage]):
    """An iterator over the pages of one stream. It subscribes to the stream only while it waits, so it may be dropped at any time.

    Args:
        begin: an asynchronous function that waits until a call on a path may run, and returns the engine.
        where: the path and the first offset.
    """

    def __init__(
        self,
        begin: Callable[[str, Line], Coroutine[Any, Any, Engine]],
        where: commands.Read,
    ) -> None:
        self._begin = begin
        self._where = where
        self._state: StreamState | None = None
        self._position = 0
        self._is_running = self._has_ended = self._is_behind = False
        self._changed: asyncio.Future[None] | None = None

    async def __anext__(self) -> StreamPage:
        if self._is_running:
            raise RuntimeError("another task waits for the next page of this loop")
        self._is_running = True
        try:
            page = None if self._has_ended else await self._next()
        finally:
            self._is_running = False
        if page is None:
            raise StopAsyncIteration
        return page

    def wake(self) -> None:
        """Ends the wait for a change of the stream."""
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    def begin_drain(self, _: Drain) -> bool:
        """Returns False, because a loop of the program itself lasts until `begin_shutdown`."""
        return False

    def end_soon(self) -> None:
        """Does nothing, because a drain never ends a loop of the program itself."""

    async def _next(self) -> StreamPage | None:
        """Returns the next page that has data, or None at the end of a closed stream."""
        engine = await self._begin(self._where.path, Line.READS)
        state = self._state
        if state is None:
            found = await read_result(engine.locate(self._where))
            self._state, self._position = found
            state = found[0]
        elif self._is_behind:
            await (
                engine.turns.wait_turn()
            )  # a follower that catches up must not block the event loop
            engine.require_store()
        while True:
            _require_running(engine)
            require_visible(state, engine.clock())
            if state.visible_tail == self._position and not state.visible_closed:
                await self._wait(engine, state)
                continue
            size = min(FOLLOW_PAGE_SIZE, engine.options.page_size)
            page = await read_result(Reader(engine.store).page(state, self._position, size))
            self._position = page.end
            self._is_behind, self._has_ended = not page.at_tail, page.closed
            if page.data:
                engine.touch(state)
                return stream_page(page)
            if page.closed:
                return None

    async def _wait(self, engine: Engine, state: StreamState) -> None:
        """Waits for a change of the stream. The caller must have checked the tail in the same turn of the event loop."""
        self._changed = asyncio.get_running_loop().create_future()
        engine.subscribe(state, self)
        try:
            await self._changed
        finally:
            self._changed = None
            engine.unsubscribe(state, self)


def _require_running(engine: Engine) -> None:
    if engine.failure is not None:
        raise engine.failure
    if engine.stopping:
        raise stopping_error()
