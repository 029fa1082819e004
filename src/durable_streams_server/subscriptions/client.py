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
from .addresses import Target, WebhookPolicy
from .answers import MAX_REPLY_BODY, decode
from .lookups import SystemResolver
from .network import (
    FORBIDDEN,
    INVALID_ANSWER,
    REDIRECT,
    TOO_LARGE,
    UNREACHABLE,
    CheckedNetwork,
    DeliveryFailed,
    Resolver,
    Turn,
    at_once,
    resolve,
)
from .patience import Patience
from .pools import Pools, Receiver

RESOLVE_SECONDS: Final = 5.0  # while whoever makes a subscription waits
_CHECKS: Final = (
    64  # lookups for subscriptions that are being made; they take no thread from deliveries
)


class Reply(NamedTuple):
    """A receiver's answer.

    Attributes:
        status: 200 to 299, or 400 and above.
        body: with a status of 200 to 299, the whole body without content encoding and byte order mark. With an error status,
            the body as it was sent, or nothing if it is too large: the status says enough.
    """

    status: int
    body: bytes


class WebhookClient:
    """Posts webhooks. It belongs to one event loop; close it with `aclose`.

    Args:
        policy: where webhooks may go.
        resolver: finds a name's addresses; the machine's resolver unless given.
        ssl_context: verifies receivers; the system's trust store unless given.
        network: opens connections to addresses that have passed.
        turn: waited for before each piece of an exchange.
    """

    def __init__(
        self,
        policy: WebhookPolicy,
        *,
        resolver: Resolver | None = None,
        ssl_context: ssl.SSLContext | None = None,
        network: httpcore2.AsyncNetworkBackend | None = None,
        turn: Turn = at_once,
    ) -> None:
        self._policy = policy
        self._check_resolver = resolver or SystemResolver(_CHECKS)
        self._pools = Pools(
            ssl_context or ssl.create_default_context(),
            CheckedNetwork(
                policy, resolver or SystemResolver(), network or httpcore2.AnyIOBackend(), turn
            ),
        )

    async def post(
        self,
        url: str,
        body: bytes,
        headers: Sequence[Header],
        patience: Patience,
    ) -> Reply:
        """Posts a body and returns the answer.

        Args:
            url: the webhook's URL. The policy is applied again, since it may have changed.
            body: the exact bytes to send.
            headers: without Host, Content-Length, User-Agent and Accept-Encoding.
            patience: the time for the whole exchange, from waiting for a connection to the end of the answer.

        Raises:
            DeliveryFailed: no answer, a redirect, an answer that is too large or not HTTP, or a body that does not decode.
        """
        try:
            async with patience.limit():
                return await self._exchange(self._policy.target(url), body, headers, patience)
        except (TimeoutError, httpcore2.TimeoutException):
            raise DeliveryFailed("the receiver took too long", timed_out=True) from None
        except BadRequest:
            raise DeliveryFailed("the receiver is where webhooks may not go", FORBIDDEN) from None
        except httpcore2.RemoteProtocolError:
            raise DeliveryFailed(
                "the receiver's answer is not whole and valid HTTP", INVALID_ANSWER
            ) from None
        except (httpcore2.NetworkError, OSError):
            raise DeliveryFailed("the connection to the receiver failed", UNREACHABLE) from None

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
                await resolve(self._policy, self._check_resolver, target.host, target.port)
        except OSError:  # TimeoutError is one
            return

    async def aclose(self) -> None:
        """Closes every connection. Requests in flight fail."""
        await self._pools.aclose()

    async def _exchange(
        self, target: Target, body: bytes, headers: Sequence[Header], patience: Patience
    ) -> Reply:
        host = target.host.encode("ascii")
        url = httpcore2.URL(scheme=target.scheme, host=host, port=target.port, target=target.path)
        own = [
            (b"host", _host_header(target)),
            (b"user-agent", b"durable-streams-server"),
            (b"accept-encoding", b"identity"),
        ]
        receiver = Receiver(target.scheme, target.host, target.port)
        with self._pools.use(receiver) as pool:
            async with pool.stream("POST", url, headers=[*own, *headers], content=body) as reply:
                patience.head_came()
                if reply.status < 200:
                    raise DeliveryFailed(
                        "the receiver wants to speak another protocol", INVALID_ANSWER
                    )
                if 300 <= reply.status < 400:
                    raise DeliveryFailed(
                        "the receiver redirects, and webhooks do not follow", REDIRECT
                    )
                if reply.status >= 400:
                    return Reply(reply.status, await _read_or_drop(reply))
                received = await _read(reply)
        codings = [value for name, value in reply.headers if name.lower() == b"content-encoding"]
        return Reply(reply.status, decode(codings, received))


async def _read(reply: httpcore2.Response) -> bytes:
    received = bytearray()
    async for part in reply.aiter_stream():
        received += part
        if len(received) > MAX_REPLY_BODY:
            raise DeliveryFailed(TOO_LARGE, INVALID_ANSWER)
    return bytes(received)


async def _read_or_drop(reply: httpcore2.Response) -> bytes:
    """Returns the body, or nothing if it is too large. Reading it keeps the connection usable."""
    try:
        return await _read(reply)
    except DeliveryFailed:
        return b""


def _host_header(target: Target) -> bytes:
    host = f"[{target.host}]" if ":" in target.host else target.host
    if target.port != {"http": 80, "https": 443}[target.scheme]:
        host = f"{host}:{target.port}"
    return host.encode("ascii")
