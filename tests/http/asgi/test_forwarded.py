"""`describe_client`: the client of an ASGI scope behind a trusted proxy."""

from typing import Any

import pytest

from durable_streams_server.errors import Header
from durable_streams_server.http.asgi.forwarded import describe_client
from durable_streams_server.http.proxies import TrustedProxies

PROXIES = TrustedProxies(["10.0.0.1"])
FOR = b"x-forwarded-for"


@pytest.mark.parametrize(
    ("headers", "client", "scheme"),
    [
        ([], ("10.0.0.1", 1), "http"),
        ([(b"host", b"h")], ("10.0.0.1", 1), "http"),
        ([(FOR, b"203.0.113.9:80")], ("203.0.113.9", 0), "http"),
        ([(FOR, b"192.0.2.1"), (FOR, b"203.0.113.9")], ("203.0.113.9", 0), "http"),
        ([(b"forwarded", b"for=203.0.113.9;proto=https")], ("203.0.113.9", 0), "https"),
        ([(b"x-forwarded-proto", b"https")], ("10.0.0.1", 1), "https"),
        ([(FOR, b"unknown")], ("10.0.0.1", 1), "http"),
    ],
)
def test_scope_gets_what_a_proxy_names(
    headers: list[Header], client: tuple[str, int], scheme: str
) -> None:
    scope: dict[str, Any] = {"client": ("10.0.0.1", 1), "scheme": "http"}
    describe_client(scope, headers, PROXIES)
    assert scope == {"client": client, "scheme": scheme}
