"""Sends webhooks over HTTP, and limits the time and the size of the answers.

The client checks the URL of each webhook, and the address of each connection (`network.py`). It verifies TLS certificates against the
name in the URL. It follows no redirects, uses no proxies and no cookies, and never retries. The caller decides what a failure means.
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
from .pools import Pools, Receiver
from .time_limit import TimeLimit

#: Maximum seconds of a name lookup for a new subscription, because a client waits for the response meanwhile.
RESOLVE_SECONDS: Final = 5.0
#: Maximum concurrent name lookups for new subscriptions. Deliveries have lookups of their own.
_CHECKS: Final = 64


class Reply(NamedTuple):
    """The answer of a receiver.

    Attributes:
        status: 200 to 299, or 400 and above.
        body: the decoded body without byte order mark, if the status is 200 to 299. With an error status, the body as it was sent,
            or empty if it is too large.
    """

    status: int
    body: bytes


class WebhookClient:
    """Sends webhooks. Belongs to one event loop. Call `aclose` at the end.

    Args:
        policy: decides which URLs and addresses are allowed.
        resolver: finds the addresses of host names. By default, the machine's resolver.
        ssl_context: verifies the certificates of receivers. By default, with the system's trusted certificates.
        network: opens connections to allowed addresses.
        turn: is awaited before each part of an exchange, so that many exchanges do not block the event loop.
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
        time_limit: TimeLimit,
    ) -> Reply:
        """Posts a body to a webhook URL, and returns the answer.

        Args:
            url: the webhook URL. The client checks it again, because the policy may have changed.
            body: the exact bytes to send.
            headers: all headers except Host, Content-Length, User-Agent and Accept-Encoding.
            time_limit: limits the whole exchange, from waiting for a connection to the end of the answer.

        Raises:
            DeliveryFailed: the receiver did not answer, or answered with a redirect, an oversized answer, invalid HTTP or a body
                that does not decode.
        """
        try:
            async with time_limit.enforce():
                return await self._exchange(self._policy.target(url), body, headers, time_limit)
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
        """Checks the URL of a new subscription, and the addresses of its host.

        Accepts a name that does not resolve within `RESOLVE_SECONDS`, because its receiver may not be running yet. Its addresses
        are checked again for each connection.

        Raises:
            BadRequest: WEBHOOK_URL_REJECTED if the policy forbids the URL or an address.
        """
        target = self._policy.target(url)
        try:
            async with asyncio.timeout(RESOLVE_SECONDS):
                await resolve(self._policy, self._check_resolver, target.host, target.port)
        except OSError:  # this includes TimeoutError
            return

    async def aclose(self) -> None:
        """Closes all connections. Exchanges that are running fail."""
        await self._pools.aclose()

    async def _exchange(
        self, target: Target, body: bytes, headers: Sequence[Header], time_limit: TimeLimit
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
                time_limit.head_received()
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
    """Returns the body of an answer, or fails if the body is too large."""
    received = bytearray()
    async for part in reply.aiter_stream():
        received += part
        if len(received) > MAX_REPLY_BODY:
            raise DeliveryFailed(TOO_LARGE, INVALID_ANSWER)
    return bytes(received)


async def _read_or_drop(reply: httpcore2.Response) -> bytes:
    """Returns the body of an answer, or nothing if the body is too large. Reading the body keeps the connection usable."""
    try:
        return await _read(reply)
    except DeliveryFailed:
        return b""


def _host_header(target: Target) -> bytes:
    host = f"[{target.host}]" if ":" in target.host else target.host
    if target.port != {"http": 80, "https": 443}[target.scheme]:
        host = f"{host}:{target.port}"
    return host.encode("ascii")
