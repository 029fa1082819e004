"""Keeps track of the event loop that owns a store.

A loop can end without giving its store back: `asyncio.run` ends after an error, or a program closes the loop. This file notices both,
so that `calls.py` can take the store back.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any


class OwnerLoop:
    """An event loop that owns a store.

    Args:
        loop: the loop. The constructor is called in its thread.
        give_back: takes the store from the loop.

    Attributes:
        loop: the loop.
        give_back: takes the store from the loop.
        sharers: number of applications on the loop that use the store, besides the first.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, give_back: Callable[[], None]) -> None:
        self.loop = loop
        self.give_back = give_back
        self.sharers = 0
        self._thread = threading.get_ident()
        self._watcher: AsyncGenerator[None, None] | None = None

    @property
    def is_ours(self) -> bool:
        """Whether no other thread can be running the loop at this moment."""
        loop = self.loop
        stands_here = self._thread == threading.get_ident() and not loop.is_running()
        return self.runs_here or stands_here or loop.is_closed()

    @property
    def runs_here(self) -> bool:
        """Whether this thread is running the loop."""
        return _running_loop() is self.loop

    @property
    def is_closed(self) -> bool:
        """Whether the loop will never run again."""
        return self.loop.is_closed()

    def watch_end(self, on_end: Callable[[], None]) -> None:
        """Calls `on_end` when `asyncio.run` ends the loop, for whatever reason. Does nothing unless this thread is running the loop."""
        if self.runs_here:
            self._watcher = self._until_end(on_end)
            _step(self._watcher.asend(None))

    def stop_watching(self) -> None:
        """Stops watching for the end of the loop."""
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            _step(watcher.aclose())

    async def _until_end(self, on_end: Callable[[], None]) -> AsyncGenerator[None, None]:
        """Calls `on_end` when this generator is closed. `asyncio.run` closes all asynchronous generators before it closes the loop."""
        try:
            yield
        finally:
            self._watcher = None  # this generator is being closed already
            on_end()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    """Returns the event loop that this thread is running, or None."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _step(coroutine: Coroutine[Any, Any, Any]) -> None:
    """Runs a coroutine that never waits, to its end or to its first `yield`."""
    try:
        coroutine.send(None)
    except (StopIteration, StopAsyncIteration):
        return
