"""The choice between HTTP/1.1 and HTTP/2 after a TLS handshake."""

import asyncio
from typing import Any

import pytest

from durable_streams_server.http.serving.alpn import choosing_factory


class Transport(asyncio.Transport):
    """A transport whose handshake has chosen a protocol by ALPN."""

    def __init__(self, tls: object) -> None:
        super().__init__({"ssl_object": tls})
        self.protocol: asyncio.BaseProtocol | None = None

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol


class Tls:
    """The result of a handshake."""

    def __init__(self, chosen: str | None) -> None:
        self._chosen = chosen

    def selected_alpn_protocol(self) -> str | None:
        return self._chosen


class Protocol(asyncio.Protocol):
    """A protocol that records its version, its arguments and its transport."""

    def __init__(self, version: str, given: dict[str, Any]) -> None:
        self.version = version
        self.given = given
        self.made: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.made = transport


@pytest.mark.parametrize(
    ("tls", "version"),
    [(Tls("h2"), "2"), (Tls("http/1.1"), "1.1"), (Tls(None), "1.1"), (None, "1.1")],
)
def test_connection_gets_protocol_chosen_in_handshake(tls: object, version: str) -> None:
    factory = choosing_factory(
        lambda **given: Protocol("1.1", given), lambda **given: Protocol("2", given)
    )
    transport = Transport(tls)
    factory(config="c").connection_made(transport)
    protocol = transport.protocol
    assert isinstance(protocol, Protocol)
    assert (protocol.version, protocol.given) == (version, {"config": "c"})
    assert protocol.made is transport
