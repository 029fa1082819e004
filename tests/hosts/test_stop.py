"""Host servers stop at once while clients wait in live reads, although they are started without a flag for that."""

import asyncio
import signal
from pathlib import Path

import httpx
import pytest

from tests.hosts.servers import SERVERS, host, until_answered

READERS = 20
TEXT = {"content-type": "text/plain"}


def create(url: str) -> None:
    """Creates a stream as soon as the server answers."""
    with httpx.Client(base_url=url) as http:
        until_answered(http)
        http.put("/a", headers=TEXT)


@pytest.mark.parametrize("kind", ["top", "mounted"])
@pytest.mark.parametrize("server", SERVERS)
async def test_stop_ends_live_reads_within_two_seconds_without_traceback(
    server: str, kind: str, tmp_path: Path
) -> None:
    with host(server, kind, tmp_path) as running:
        create(running.url)
        began = asyncio.Barrier(READERS + 1)
        limits = httpx.Limits(max_connections=2 * READERS + 1)
        async with httpx.AsyncClient(base_url=running.url, timeout=20, limits=limits) as client:

            async def follow() -> bytes:
                async with client.stream("GET", "/a?offset=-1&live=sse") as events:
                    pieces = events.aiter_bytes()
                    assert b"event: control" in await anext(pieces)
                    await began.wait()
                    return b"".join([piece async for piece in pieces])

            polls = [
                asyncio.create_task(client.get("/a?offset=now&live=long-poll"))
                for _ in range(READERS)
            ]
            readers = [asyncio.create_task(follow()) for _ in range(READERS)]
            await began.wait()
            took = await asyncio.to_thread(running.stop)
            # Raises an error if a body does not end properly.
            for rest in await asyncio.gather(*readers):
                assert b"event: control\ndata:{" in rest
            for poll in await asyncio.gather(*polls):
                assert poll.status_code in (204, 503)  # daphne cancels running requests
        assert took < 2
        assert "Traceback" not in running.log()


@pytest.mark.parametrize("server", ["uvicorn", "hypercorn", "granian"])
def test_sigint_ends_event_streams_with_a_control_event(server: str, tmp_path: Path) -> None:
    with host(server, "mounted", tmp_path) as running:
        create(running.url)
        with httpx.stream("GET", f"{running.url}/a?offset=-1&live=sse") as events:
            pieces = events.iter_bytes()
            next(pieces)
            assert running.stop(signal.SIGINT) < 2
            assert b"event: control" in b"".join(pieces)
        assert "Traceback" not in running.log()
