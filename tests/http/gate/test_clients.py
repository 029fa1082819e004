"""`client_key`: the key under which the limits of a client are counted."""

import pytest

from durable_streams_server.http.gate.clients import client_key
from durable_streams_server.http.gate.permit import OPEN, Permit
from durable_streams_server.http.request import Request


@pytest.mark.parametrize(
    ("permit", "forwarded", "peer", "expected"),
    [
        (Permit("token:a"), "203.0.113.9", "10.0.0.1", "token:a"),
        (OPEN, "203.0.113.9", "10.0.0.1", "203.0.113.9"),
        (OPEN, None, "10.0.0.1", "10.0.0.1"),
        (OPEN, None, None, None),
        (OPEN, "203.0.113.9", None, "203.0.113.9"),
    ],
)
def test_key_is_the_token_or_else_the_forwarded_address_or_else_the_peer(
    permit: Permit, forwarded: str | None, peer: str | None, expected: str | None
) -> None:
    request = Request("GET", b"/a", b"", {}, client=forwarded)
    assert client_key(permit, request, peer) == expected
