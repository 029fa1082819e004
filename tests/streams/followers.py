"""Helpers for tests that follow streams of an application."""

import asyncio
from collections.abc import AsyncIterator

from durable_streams_server import DurableStreamsApp, StreamPage


async def collect(pages: AsyncIterator[StreamPage], size: int) -> bytes:
    """Reads pages until they have at least `size` bytes, and returns these bytes."""
    data = b""
    async for page in pages:
        data += page.data
        if len(data) >= size:
            break
    return data


def waiting(app: DurableStreamsApp) -> int:
    """Returns the number of live readers that wait."""
    return len(app.engine.tails)


async def until_waiting(app: DurableStreamsApp, count: int) -> None:
    """Lets the event loop run until `count` live readers wait."""
    for _ in range(100_000):
        if waiting(app) == count:
            return
        await asyncio.sleep(0)
    raise AssertionError(f"{waiting(app)} readers wait, not {count}")
