"""An application with one stream, and a certificate, for the tests of the ASGI adapter."""

import pytest

from durable_streams_server import StreamStore, create_app
from durable_streams_server.http.asgi.application import DurableStreamsApp
from tests.http import certificates
from tests.http.certificates import Certificate


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


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """Returns a certificate for localhost."""
    return certificates.make(tmp_path_factory.mktemp("tls"))
