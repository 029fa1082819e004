"""Opens connections to receivers, only to addresses that the policy allows, and limits how much a receiver may send.

For each connection, the host name is resolved once, every address is checked (`addresses.py`), and the connection goes to one of the
checked addresses. So a second DNS answer cannot redirect the connection to a forbidden address.
"""

import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, TypeAlias

import httpcore2

from ..protocol.units import KIB
from .addresses import WebhookPolicy, is_address

#: Waits until the caller may use the event loop for the next part of its work.
Turn: TypeAlias = Callable[[], Awaitable[None]]

#: Returns the addresses of a host name and a port. Raises OSError if there are none.
Resolver: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]

#: Maximum bytes of one answer, because the server holds the whole answer in memory. The limit leaves room for a body of 64 KiB, its framing
#: and the head.
MAX_REPLY_BYTES: Final = 96 * KIB
#: Maximum seconds that a connection to one address may take.
CONNECT_SECONDS: Final = 5.0
#: Maximum addresses that are tried for one connection.
MAX_ATTEMPTS: Final = 4

TOO_LARGE: Final = "the receiver's answer is too large"

# Codes of failed deliveries. Clients see them in the documents of subscriptions.
NO_ANSWER: Final = "no_answer"  # the exchange timed out
UNREACHABLE: Final = "unreachable"  # the name, the connection or TLS failed
FORBIDDEN: Final = "forbidden"  # the policy forbids the URL or an address
REDIRECT: Final = "redirect"
INVALID_ANSWER: Final = (
    "invalid_answer"  # the answer is not HTTP, too large, or in an unknown encoding
)


class DeliveryFailed(Exception):
    """The receiver has not answered, or the server does not accept its answer. The receiver may still have got the request.

    Attributes:
        reason: a short sentence for the operator. It contains nothing that the receiver sent.
        code: the kind of failure: NO_ANSWER, UNREACHABLE, FORBIDDEN, REDIRECT or INVALID_ANSWER.
        timed_out: True if the exchange timed out, so that the receiver may still be working.
    """

    def __init__(self, reason: str, code: str = UNREACHABLE, *, timed_out: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = NO_ANSWER if timed_out else code
        self.timed_out = timed_out


async def at_once() -> None:
    """Returns immediately. A client without other work on its event loop uses this function as its `Turn`."""


async def resolve(policy: WebhookPolicy, resolver: Resolver, host: str, port: int) -> Sequence[str]:
    """Returns the addresses of a host, if the policy allows all of them.

    Raises:
        BadRequest: WEBHOOK_URL_REJECTED if the policy forbids one of the addresses.
        OSError: the name does not resolve.
    """
    try:
        addresses = (host,) if is_address(host) else tuple(await resolver(host, port))
    except UnicodeError:  # IDNA forbids the name
        raise OSError("no such name") from None
    for address in addresses:
        policy.check_address(host, address)
    return addresses


class CheckedNetwork(httpcore2.AsyncNetworkBackend):
    """Opens connections for a pool of httpcore, only to addresses that the policy allows.

    Args:
        policy: decides which addresses are allowed.
        resolver: finds the addresses of host names.
        network: opens connections to allowed addresses.
        turn: is awaited before each part of an exchange, because hundreds of receivers may answer at once, and each answer takes half
            a millisecond of the event loop.
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
            except (
                httpcore2.ConnectTimeout
            ):  # the receiver has not got the request, so it cannot be working on it
                failure = DeliveryFailed("the receiver took no connection", UNREACHABLE)
            else:
                return _BoundedStream(stream, self._turn)
        raise failure


class _BoundedStream(httpcore2.AsyncNetworkStream):
    """A connection on which no answer may have more than `MAX_REPLY_BYTES`, including its head and framing.

    httpcore writes a whole request before it reads the answer, so each write resets the count. The first write of a request and the
    first read of its answer wait for their turn.
    """

    def __init__(self, stream: httpcore2.AsyncNetworkStream, turn: Turn) -> None:
        self._stream = stream
        self._turn = turn
        self._received = 0
        self._is_writing = False  # True from the first write of a request to the first read

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = await self._stream.read(max_bytes, timeout)
        self._received += len(data)
        if self._received > MAX_REPLY_BYTES:
            raise DeliveryFailed(TOO_LARGE, INVALID_ANSWER)
        if self._is_writing:
            self._is_writing = False
            await self._turn()
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._received = 0
        if not self._is_writing:
            self._is_writing = True
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
            await self._stream.aclose()  # the exchange has timed out or was cancelled
            raise
        return _BoundedStream(stream, self._turn)

    async def aclose(self) -> None:
        await self._stream.aclose()

    def get_extra_info(self, info: str) -> Any:
        try:
            return self._stream.get_extra_info(info)
        except AttributeError:  # uvloop has closed the connection and no longer has its socket
            # The pool treats a readable idle connection as closed.
            return True if info == "is_readable" else None
