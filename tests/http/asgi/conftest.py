"""An application with one stream, for tests that drive it message by message."""

import pytest

from durable_streams_server import StreamStore, create_app
from durable_streams_server.http.asgi.application import DurableStreamsApp


@pytest.fixture
async def store() -> StreamStore:
    """Returns a store whose stream `/v1/stream/a` holds `hello`."""
    store = StreamStore()
    store.create("/v1/stream/a", "text/plain")
    store.append("/v1/stream/a", b"hello")
    return store


@pytest.fixture
async def app(store: StreamStore) -> DurableStreamsApp:
    """Returns an application of that store whose long-polls wait for 5 seconds."""
    return create_app(store=store, long_poll_timeout=5)
