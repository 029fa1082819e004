"""The outgoing HTTP client: posts a webhook to where it may go, and takes back no more than it must.

The URL is judged each time, and the address at each connection (`network.py`). TLS is verified against the name in the URL.
There are no redirects, no proxies, no cookies and no retries: whoever calls decides what a failure means.
"""

import asyncio
import ssl
from collections.abc import Sequence
from typing import Final, NamedTuple

import httpcore2

from ..errors import BadRequest, Header
from ..protocol.names import KIB
from .addresses import Target, WebhookPolicy
from .network import (
    TOO_LARGE,
    CheckedNetwork,
    DeliveryFailed,
    Resolver,
    resolve,
    system_resolver,
)
from .slots import MAX_DELIVERIES

MAX_REPLY_BODY: Final = 64 * KIB  # a reply says `{"done": true}`; more is a mistake or an attack
RESOLVE_SECONDS: Final = 5.0  # while whoever makes a subscription waits
MAX_CONNECTIONS: Final = MAX_DELIVERIES  # a delivery that has its place waits for no other's
MAX_IDLE_CONNECTIONS: Final = 20
IDLE_SECONDS: Final = 15.0  # less than receivers allow: few connections are cut as they are used


class Reply(NamedTuple):
    """What the receiver answered: a status of 200 to 299 or of 400 and above, and the whole body."""

    status: int
    body: bytes


class WebhookClient:
    """Posts webhooks. It belongs to one event loop; close it with `aclose`.

    Args:
        policy: where webhooks may go.
        resolver: finds a name's addresses.
        ssl_context: verifies receivers; the system's trust store unless given.
        network: opens connections to addresses that have passed.
    """

    def __init__(
        self,
        policy: WebhookPolicy,
        *,
        resolver: Resolver = system_resolver,
        ssl_context: ssl.SSLContext | None = None,
        network: httpcore2.AsyncNetworkBackend | None = None,
    ) -> None:
        self._policy = policy
        self._resolver = resolver
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=ssl_context or ssl.create_default_context(),
            max_connections=MAX_CONNECTIONS,
            max_keepalive_connections=MAX_IDLE_CONNECTIONS,
            keepalive_expiry=IDLE_SECONDS,
            network_backend=CheckedNetwork(policy, resolver, network or httpcore2.AnyIOBackend()),
        )

    async def post(
        self,
        url: str,
        body: bytes,
        headers: Sequence[Header],
        timeout: float,  # noqa: ASYNC109
    ) -> Reply:
        """Posts a body and returns the answer.

        Args:
            url: the webhook's; judged again, since the policy may have changed.
            body: the exact bytes to send.
            headers: without Host and Content-Length.
            timeout: seconds for all of it, from waiting for a connection to the end of the answer.

        Raises:
            DeliveryFailed: no answer, a redirect, or more than `MAX_REPLY_BODY` bytes of one.
        """
        try:
            async with asyncio.timeout(timeout):
                return await self._exchange(self._policy.target(url), body, headers)
        except (TimeoutError, httpcore2.TimeoutException):
            raise DeliveryFailed("the receiver took too long", timed_out=True) from None
        except BadRequest:
            raise DeliveryFailed("the receiver is where webhooks may not go") from None
        except httpcore2.RemoteProtocolError:
            raise DeliveryFailed("the receiver's answer is not whole and valid HTTP") from None
        except (httpcore2.NetworkError, OSError):
            raise DeliveryFailed("the connection to the receiver failed") from None

    async def resolve_and_check(self, url: str) -> None:
        """Judges a URL and what its host resolves to now, for a subscription that is being made.

        A name that does not resolve, or not within `RESOLVE_SECONDS`, passes: its receiver may not be up yet, and the address
        is judged again when it is connected to.

        Raises:
            BadRequest: WEBHOOK_URL_REJECTED.
        """
        target = self._policy.target(url)
        try:
            async with asyncio.timeout(RESOLVE_SECONDS):
                await resolve(self._policy, self._resolver, target.host, target.port)
        except OSError:  # TimeoutError is one
            return

    async def aclose(self) -> None:
        """Closes every connection. Requests in flight fail."""
        await self._pool.aclose()

    async def _exchange(self, target: Target, body: bytes, headers: Sequence[Header]) -> Reply:
        host = target.host.encode("ascii")
        url = httpcore2.URL(scheme=target.scheme, host=host, port=target.port, target=target.path)
        own = [(b"host", _host_header(target)), (b"user-agent", b"durable-streams-server")]
        async with self._pool.stream("POST", url, headers=[*own, *headers], content=body) as reply:
            if reply.status < 200:
                raise DeliveryFailed("the receiver wants to speak another protocol")
            if 300 <= reply.status < 400:
                raise DeliveryFailed("the receiver redirects, and webhooks do not follow")
            received = bytearray()
            async for part in reply.aiter_stream():
                received += part
                if len(received) > MAX_REPLY_BODY:
                    raise DeliveryFailed(TOO_LARGE)
            return Reply(reply.status, bytes(received))


def _host_header(target: Target) -> bytes:
    host = f"[{target.host}]" if ":" in target.host else target.host
    if target.port != {"http": 80, "https": 443}[target.scheme]:
        host = f"{host}:{target.port}"
    return host.encode("ascii")
