"""Fetches a key set over HTTP, and limits the time and the size of the answer.

The request has no credentials and follows no redirect. The messages of errors contain nothing that the provider has sent.

This module loads the package `httpcore2`, so import it when it is first needed.
"""

import asyncio
import ssl
from typing import Final

import httpcore2

from ..protocol.units import KIB

#: Maximum seconds of one fetch. Requests with unknown keys wait for it.
FETCH_SECONDS: Final = 10.0
#: Maximum bytes of a key set. Sets with a chain of certificates for each key have some 10 KiB.
MAX_KEY_SET_BYTES: Final = 256 * KIB

_HEADERS: Final = [
    (b"accept", b"application/jwk-set+json, application/json"),
    (b"accept-encoding", b"identity"),
    (b"user-agent", b"durable-streams-server"),
    (b"connection", b"close"),
]


class FetchFailed(Exception):
    """The key set could not be fetched. The message says why in words of the server."""


async def fetch(
    url: str,
    ssl_context: ssl.SSLContext | None,
    network: httpcore2.AsyncNetworkBackend | None = None,
) -> bytes:
    """Returns the body at a URL.

    Args:
        url: an https URL, or an http URL of this machine.
        ssl_context: verifies the certificate of an https URL.
        network: opens connections. By default, the network of the machine.

    Raises:
        FetchFailed: the provider did not answer with 200 and a body of reasonable size in time.
    """
    try:
        async with asyncio.timeout(FETCH_SECONDS):
            return await _exchange(url, ssl_context, network)
    except TimeoutError:
        why = "it takes too long"
    except (httpcore2.ConnectError, UnicodeError):  # IDNA forbids some names
        why = "the name, the connection or the certificate failed"
    except (httpcore2.RemoteProtocolError, httpcore2.NetworkError, OSError):
        why = "the answer is not whole and valid HTTP"
    raise FetchFailed(why)


async def _exchange(
    url: str,
    ssl_context: ssl.SSLContext | None,
    network: httpcore2.AsyncNetworkBackend | None,
) -> bytes:
    async with (
        httpcore2.AsyncConnectionPool(
            ssl_context=ssl_context, max_connections=1, network_backend=network
        ) as pool,
        pool.stream("GET", url, headers=[(b"host", _host(url)), *_HEADERS]) as reply,
    ):
        if reply.status != 200:
            raise FetchFailed(f"the answer has the status {reply.status}")
        received = bytearray()
        async for part in reply.aiter_stream():
            received += part
            if len(received) > MAX_KEY_SET_BYTES:
                raise FetchFailed(f"the answer has more than {MAX_KEY_SET_BYTES} bytes")
        return bytes(received)


def _host(url: str) -> bytes:
    """Returns the value of the Host header for a URL."""
    found = httpcore2.URL(url)
    host = b"[%b]" % found.host if b":" in found.host else found.host
    return host if found.port is None else b"%b:%d" % (host, found.port)
