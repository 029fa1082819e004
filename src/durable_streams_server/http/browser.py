"""What browsers and caches need around every response: CORS and security headers."""

import re
from collections.abc import Sequence
from typing import Final

from ..errors import Header
from ..protocol.render import Common, Response
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
_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://[!-.0->@-~]+")  # RFC 6454, 6.2


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
