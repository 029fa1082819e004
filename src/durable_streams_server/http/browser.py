"""What browsers and caches need around every response: CORS, security headers, compression."""

import asyncio
import re
import zlib
from collections.abc import Sequence
from typing import Final

from ..errors import Header, Unavailable
from ..protocol.caching import compressed_etag
from ..protocol.decide import RETRY_SOON
from ..protocol.names import CONTENT_TYPE, GZIP_MINIMUM
from ..protocol.render import Common, Response
from ..storage.ticket import Ticket
from .request import Request

#: PROTOCOL 12.7
_SECURITY: Final[list[Header]] = [
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"cross-origin"),
]
METHODS: Final = b"GET, HEAD, PUT, POST, DELETE, OPTIONS"
_REQUEST_HEADERS: Final = (
    b"Content-Type, Authorization, If-None-Match, Last-Event-ID, Cache-Control, Stream-Seq, "
    b"Stream-TTL, Stream-Expires-At, Stream-Closed, Stream-Forked-From, Stream-Fork-Offset, "
    b"Stream-Fork-Sub-Offset, Stream-Expected-Offset, Producer-Id, Producer-Epoch, Producer-Seq"
)
_EXPOSED: Final = (
    b"Stream-Next-Offset, Stream-Cursor, Stream-Up-To-Date, Stream-Closed, Stream-TTL, "
    b"Stream-Expires-At, Stream-SSE-Data-Encoding, Producer-Epoch, Producer-Seq, "
    b"Producer-Expected-Seq, Producer-Received-Seq, ETag, Location, Retry-After, "
    b"Content-Type, Content-Encoding, Vary"
)
_ANY_ORIGIN: Final[list[Header]] = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", _EXPOSED),
]
_PREFLIGHT_AGE: Final = b"86400"  # seconds; browsers cap it themselves
_GZIP_LEVEL: Final = 1  # most of the gain for the least time; pages are sent once and forgotten
_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://[!-.0->@-~]+")  # RFC 6454, 6.2
_COMPRESSIBLE: Final = (b"text/", b"application/json", b"application/ndjson", b"application/xml")


class Browser:
    """Finishes responses for browsers.

    Args:
        origins: the origins that scripts may call from; `*` means any. Empty: no CORS headers at all.

    Raises:
        ValueError: for what is neither `*` nor an origin such as `https://app.example:8443`.
    """

    def __init__(self, origins: Sequence[str]) -> None:
        for origin in origins:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin!r} is not an origin such as https://app.example")
        self._any = "*" in origins
        self._common = Common(_SECURITY + _ANY_ORIGIN if self._any else _SECURITY)
        self._origins = frozenset(origin.encode("latin-1") for origin in origins)

    def preflight(self) -> Response:
        """Answers OPTIONS: what may be asked for. It comes before any authorisation (TRAPS 44)."""
        headers: list[Header] = [(b"allow", METHODS), (b"cache-control", b"no-store")]
        if self._origins:
            headers += [
                (b"access-control-allow-methods", METHODS),
                (b"access-control-allow-headers", _REQUEST_HEADERS),
                (b"access-control-max-age", _PREFLIGHT_AGE),
            ]
        return Response(204, headers)

    def finish(self, request: Request, response: Response) -> Response:
        """Adds the headers that every response has."""
        response.common = self._common
        headers = response.headers
        if not self._any and self._origins:
            headers.append((b"vary", b"Origin"))
            origin = request.headers.get(b"origin")
            if origin in self._origins and origin is not None:
                headers.append((b"access-control-allow-origin", origin))
                headers.append((b"access-control-expose-headers", _EXPOSED))
        if response.vary_encoding:
            headers.append((b"vary", b"Accept-Encoding"))
        return response


def wants_gzip(request: Request, response: Response) -> bool:
    """Whether the response is worth compressing and the client takes it so (RFC 9110, 12.5.3)."""
    if not response.vary_encoding or response.size < GZIP_MINIMUM:
        return False
    accepted = request.headers.get(b"accept-encoding")
    if accepted is None or not _accepts_gzip(accepted):
        return False
    types = [value for name, value in response.headers if name == CONTENT_TYPE]
    return bool(types) and types[0].lower().startswith(_COMPRESSIBLE)


def compress(response: Response) -> Ticket[Response]:
    """Compresses a body in a thread, and gives the page the tag of that representation.

    The ticket fails with SERVER_STOPPING when there is no thread any more, and with whatever the compression failed with.
    """
    ticket: Ticket[Response] = Ticket()
    loop = asyncio.get_running_loop()
    future = loop.run_in_executor(None, _gzip, response.whole)

    def done(result: asyncio.Future[bytes]) -> None:
        if result.cancelled():
            ticket.fail(Unavailable("the server is stopping", "SERVER_STOPPING", [RETRY_SOON]))
            return
        error = result.exception()
        if error is not None:
            ticket.fail(error)
            return
        response.body, response.array = result.result(), False
        response.headers = [
            (name, compressed_etag(value) if name == b"etag" else value)
            for name, value in response.headers
        ]
        response.headers.append((b"content-encoding", b"gzip"))
        ticket.resolve(response)

    future.add_done_callback(done)
    return ticket


def _accepts_gzip(accepted: bytes) -> bool:
    for part in accepted.lower().split(b","):
        name, _, weight = part.partition(b";")
        if name.strip() in (b"gzip", b"*"):
            value = weight.strip().removeprefix(b"q=").strip()
            return value.strip(b"0.") != b"" or not weight.strip()
    return False


def _gzip(body: bytes) -> bytes:
    packer = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    return packer.compress(body) + packer.flush()
