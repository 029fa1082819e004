"""`PrivateBrowser`: responses get a Cache-Control that keeps them out of shared caches."""

import pytest

from durable_streams_server.http.private import PrivateBrowser
from durable_streams_server.http.request import NO_REQUEST
from durable_streams_server.protocol.render import Response


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"public, max-age=86400", b"private, no-cache"),
        (b"no-cache", b"private, no-cache"),
        (b"no-cache, no-transform", b"private, no-cache, no-transform"),
        (b"no-store", b"no-store"),
    ],
)
def test_cache_control_becomes_private_unless_it_forbids_storing(
    value: bytes, expected: bytes
) -> None:
    response = Response(200, [(b"etag", b'"1"'), (b"cache-control", value)])
    finished = PrivateBrowser(["*"]).finish(NO_REQUEST, response)
    assert finished.headers == [(b"etag", b'"1"'), (b"cache-control", expected)]
    assert (b"access-control-allow-origin", b"*") in finished.all_headers
