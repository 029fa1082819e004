"""Chooses the protocol class of a TLS connection by the HTTP version agreed on in the handshake (ALPN, RFC 7301).

The choice is made once for each connection, so requests become no slower.
"""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Callable
from typing import Any, Final, cast

HTTP2: Final = "h2"
HTTP1: Final = "http/1.1"


def speaks_http2() -> bool:
    """Returns whether the package `zttp`, which parses HTTP/2, is installed. It has wheels for CPython only."""
    return importlib.util.find_spec("zttp") is not None


def choosing_factory(
    http1: Callable[..., asyncio.BaseProtocol], http2: Callable[..., asyncio.BaseProtocol]
) -> Callable[..., asyncio.BaseProtocol]:
    """Returns the function that uvicorn calls to make each TLS connection.

    Args:
        http1: makes the connection of a client that did not choose HTTP/2.
        http2: makes the connection of a client that chose HTTP/2.
    """

    def connect(**given: Any) -> asyncio.BaseProtocol:
        return _Choice(http1, http2, given)

    return connect


class _Choice(asyncio.Protocol):
    """A protocol that replaces itself with the HTTP/1.1 or HTTP/2 protocol when the handshake is done."""

    def __init__(
        self,
        http1: Callable[..., asyncio.BaseProtocol],
        http2: Callable[..., asyncio.BaseProtocol],
        given: dict[str, Any],
    ) -> None:
        self._http1 = http1
        self._http2 = http2
        self._given = given

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Makes the protocol that was chosen in the handshake, and hands the transport over to it."""
        tls = transport.get_extra_info("ssl_object")
        chosen = None if tls is None else tls.selected_alpn_protocol()
        protocol = (self._http2 if chosen == HTTP2 else self._http1)(**self._given)
        cast(asyncio.Transport, transport).set_protocol(protocol)
        protocol.connection_made(transport)
