"""Fixtures that several test files of `streams` share."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from durable_streams_server import (
    DurableStreamsApp,
    FileBackedStreamStore,
    Streams,
    StreamStore,
    create_app,
)
from durable_streams_server.protocol.units import MIB
from durable_streams_server.streams import calls
from tests.streams.engines import PublicStore
from tests.streams.threads import LoopThread, running_loop_thread


@pytest.fixture(params=["memory", "files"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[PublicStore]:
    """Each kind of public store, empty."""
    made: PublicStore = StreamStore()
    if request.param == "files":
        made = FileBackedStreamStore(tmp_path, segment_size=1 << 20)
    yield made
    made.close()


@pytest.fixture(params=["memory", "files"])
async def app(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[DurableStreamsApp]:
    """An application on each kind of store, before its first request."""
    store: PublicStore = StreamStore()
    if request.param == "files":
        store = FileBackedStreamStore(tmp_path, segment_size=4 * MIB)
    app = create_app(store=store)
    yield app
    await app.stop()
    store.close()


@pytest.fixture
def streams(app: DurableStreamsApp) -> Streams:
    """The streams of the application."""
    return app.streams


@pytest.fixture
def loop_thread() -> Iterator[LoopThread]:
    """An event loop that runs in a new thread."""
    with running_loop_thread() as thread:
        yield thread


@pytest.fixture
def frequent_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes waiting calls check their store's event loop every millisecond."""
    monkeypatch.setattr(calls, "_CHECK_INTERVAL", 0.001)
