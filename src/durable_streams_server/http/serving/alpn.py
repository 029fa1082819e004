"""Chooses the protocol of a TLS connection by what the client and the server agreed on in the handshake (ALPN, RFC 7301).

Clients that speak HTTP/2 get `http2.py`, all others the connection that plain HTTP gets too. The choice is made once for each
connection, so a request costs nothing more.
"""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Callable
from typing import Any, Final, cast

HTTP2: Final = "h2"
HTTP1: Final = "http/1.1"


def speaks_http2() -> bool:
    """Whether HTTP/2 can be offered: its parser, the package `zttp`, has wheels for CPython alone."""
    return importlib.util.find_spec("zttp") is not None


def choosing(
    http1: Callable[..., asyncio.BaseProtocol], http2: Callable[..., asyncio.BaseProtocol]
) -> Callable[..., asyncio.BaseProtocol]:
    """Returns what uvicorn calls for each TLS connection.

    Args:
        http1: makes a connection of a client that has not asked for HTTP/2.
        http2: makes a connection of a client that has.
    """

    def connect(**given: Any) -> asyncio.BaseProtocol:
        return _Choice(http1, http2, given)

    return connect


class _Choice(asyncio.Protocol):
    """Stands in until the handshake is done, and then hands the transport over."""

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
        """The handshake is done."""
        tls = transport.get_extra_info("ssl_object")
        chosen = None if tls is None else tls.selected_alpn_protocol()
        protocol = (self._http2 if chosen == HTTP2 else self._http1)(**self._given)
        cast(asyncio.Transport, transport).set_protocol(protocol)
        protocol.connection_made(transport)
