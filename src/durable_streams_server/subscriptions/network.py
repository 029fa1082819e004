"""Connections to receivers: resolved, judged, and made to what was judged.

A host's name is resolved when a connection is made; every address in the answer is judged (`addresses.py`), and one of those
very addresses is connected to. So no second answer can lead elsewhere. What comes back over a connection is bounded.
"""

import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, TypeAlias

import httpcore2

from ..protocol.units import KIB
from .addresses import WebhookPolicy, is_address

#: Returns when the caller's turn has come to work on the loop.
Turn: TypeAlias = Callable[[], Awaitable[None]]

#: Takes a host's name and a port, and returns its addresses; raises OSError when there are none.
Resolver: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]

MAX_REPLY_BYTES: Final = 96 * KIB  # head, framing and a body of 64 KiB; held in memory at once
CONNECT_SECONDS: Final = 5.0  # for each address tried
MAX_ATTEMPTS: Final = 4  # addresses tried for one connection

TOO_LARGE: Final = "the receiver's answer is too large"

# Codes of failed deliveries, which clients see in the status of a subscription.
NO_ANSWER: Final = "no_answer"  # the time for the exchange ran out
UNREACHABLE: Final = "unreachable"  # no such name, no connection, no TLS, or the connection broke
FORBIDDEN: Final = "forbidden"  # the policy refuses the URL or an address
REDIRECT: Final = "redirect"
INVALID_ANSWER: Final = "invalid_answer"  # not HTTP, too large, or in an unknown encoding


class DeliveryFailed(Exception):
    """There is no answer, or none that the server accepts. The receiver may have got the request all the same.

    Attributes:
        reason: one short sentence for the operator, with nothing in it that the receiver sent.
        code: the kind of failure: NO_ANSWER, UNREACHABLE, FORBIDDEN, REDIRECT or INVALID_ANSWER.
        timed_out: whether the time for the exchange ran out, so that the receiver may still be working.
    """

    def __init__(self, reason: str, code: str = UNREACHABLE, *, timed_out: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = NO_ANSWER if timed_out else code
        self.timed_out = timed_out


async def at_once() -> None:
    """The turn of a client that has the loop for itself."""


async def resolve(policy: WebhookPolicy, resolver: Resolver, host: str, port: int) -> Sequence[str]:
    """Returns a host's addresses, each of which has passed.

    Raises:
        BadRequest: WEBHOOK_URL_REJECTED when even one of them has not.
        OSError: the name does not resolve.
    """
    try:
        addresses = (host,) if is_address(host) else tuple(await resolver(host, port))
    except UnicodeError:  # a name that IDNA forbids
        raise OSError("no such name") from None
    for address in addresses:
        policy.check_address(host, address)
    return addresses


class CheckedNetwork(httpcore2.AsyncNetworkBackend):
    """Opens connections for the pool.

    Args:
        policy: which addresses are connected to.
        resolver: finds a name's addresses.
        network: opens connections to addresses that have passed.
        turn: waited for before each piece of an exchange. Answers of hundreds of receivers may come at once, and to work on each takes
            half a millisecond.
    """

    def __init__(
        self,
        policy: WebhookPolicy,
        resolver: Resolver,
        network: httpcore2.AsyncNetworkBackend,
        turn: Turn,
    ) -> None:
        self._policy = policy
        self._resolver = resolver
        self._network = network
        self._turn = turn

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        try:
            addresses = await resolve(self._policy, self._resolver, host, port)
        except OSError:
            addresses = ()
        failure: Exception = DeliveryFailed("the receiver's name does not resolve", UNREACHABLE)
        for address in addresses[:MAX_ATTEMPTS]:
            try:
                stream = await self._network.connect_tcp(address, port, CONNECT_SECONDS)
            except httpcore2.ConnectError as error:
                failure = error
            except httpcore2.ConnectTimeout:  # the receiver got nothing, so it is not working
                failure = DeliveryFailed("the receiver took no connection", UNREACHABLE)
            else:
                return _BoundedStream(stream, self._turn)
        raise failure


class _BoundedStream(httpcore2.AsyncNetworkStream):
    """A connection on which no answer may have more than `MAX_REPLY_BYTES`, whatever they are.

    A request is written whole before its answer is read, so a write begins the count anew. The first piece of a request waits for its
    turn, and so does the first of an answer.
    """

    def __init__(self, stream: httpcore2.AsyncNetworkStream, turn: Turn) -> None:
        self._stream = stream
        self._turn = turn
        self._received = 0
        self._is_asking = False

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = await self._stream.read(max_bytes, timeout)
        self._received += len(data)
        if self._received > MAX_REPLY_BYTES:
            raise DeliveryFailed(TOO_LARGE, INVALID_ANSWER)
        if self._is_asking:
            self._is_asking = False
            await self._turn()
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._received = 0
        if not self._is_asking:
            self._is_asking = True
            await self._turn()
        await self._stream.write(buffer, timeout)

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        try:
            stream = await self._stream.start_tls(ssl_context, server_hostname, timeout)
        except httpcore2.ConnectError:
            raise DeliveryFailed(
                "the receiver's certificate or TLS is not good", UNREACHABLE
            ) from None
        except BaseException:
            await self._stream.aclose()  # time ran out, or nobody waits any more
            raise
        return _BoundedStream(stream, self._turn)

    async def aclose(self) -> None:
        await self._stream.aclose()

    def get_extra_info(self, info: str) -> Any:
        try:
            return self._stream.get_extra_info(info)
        except AttributeError:  # uvloop has no socket any more for a connection that it has closed
            return True if info == "is_readable" else None  # which the pool takes for disconnected
