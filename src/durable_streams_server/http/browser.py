"""Adds the headers for browsers and caches to every response: CORS, security headers, and `Vary`.

No other file sets these headers, so no response has one of them twice. They are combined once for each allowed
origin. There is one `Common` without `Accept-Encoding` in its `Vary` header, and one with it.
"""

import re
from collections.abc import Container, Sequence
from typing import Final

from ..errors import Header
from ..protocol.names import ORIGIN
from ..protocol.render import Common, Response
from ..protocol.units import KIB
from .request import Request

#: Security headers (PROTOCOL 12.7). A stream may hold HTML, SVG or XML from anybody. When a browser opens it, `sandbox` keeps its
#: scripts from running and gives it an origin of its own.
_SECURITY: Final[list[Header]] = [
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"sandbox"),
]
_EMBEDDABLE: Final = [*_SECURITY, (b"cross-origin-resource-policy", b"cross-origin")]
METHODS: Final = b"GET, HEAD, PUT, POST, DELETE, OPTIONS"
_REQUEST_HEADERS: Final = (
    b"Content-Type, Authorization, If-None-Match, Last-Event-ID, Cache-Control, Stream-Seq, "
    b"Stream-TTL, Stream-Expires-At, Stream-Closed, Stream-Forked-From, Stream-Fork-Offset, "
    b"Stream-Fork-Sub-Offset, Stream-Expected-Offset, Stream-Public, Producer-Id, Producer-Epoch, "
    b"Producer-Seq, X-Request-Id"
)
_EXPOSED: Final = (
    b"Stream-Next-Offset, Stream-Cursor, Stream-Up-To-Date, Stream-Closed, Stream-TTL, "
    b"Stream-Expires-At, Stream-Public, Stream-SSE-Data-Encoding, Producer-Epoch, Producer-Seq, "
    b"Producer-Expected-Seq, Producer-Received-Seq, ETag, Location, Retry-After, "
    b"Content-Type, Content-Encoding, Vary, X-Request-Id"
)
_KNOWN_HEADERS: Final = frozenset(_REQUEST_HEADERS.lower().split(b", "))
#: Maximum bytes of the header names that a preflight may ask for.
_LONGEST_ASKED: Final = 4 * KIB
_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_PREFLIGHT_AGE: Final = b"86400"  # seconds; browsers have lower limits of their own
_CREDENTIALS: Final[Header] = (b"access-control-allow-credentials", b"true")
_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://[!-.0->@-~]+")  # RFC 6454, 6.2


#: Stands for the origins of all pages of this machine, in a list of origins.
LOCAL: Final = "local"
_KEPT: Final = 256  # maximum number of origins whose headers are kept

_Commons = tuple[Common, Common]


def check_origin(origin: str) -> None:
    """Refuses a text that is neither `*` nor `local` nor an origin.

    Raises:
        ValueError: The text is not an origin such as `https://app.example:8443`.
    """
    if origin not in ("*", LOCAL) and not _ORIGIN.fullmatch(origin):
        raise ValueError(f"{origin!r} is not an origin such as https://app.example")


class Browser:
    """Adds the common headers to responses, and answers preflights.

    Args:
        origins: Origins whose scripts may call the server. `*` allows every origin, and `local` those of pages of this machine, but only
            listed origins may send credentials. Without origins, responses have no CORS headers.
        local: Recognises the origins of pages of this machine. Needed with `local`.

    Raises:
        ValueError: A value is neither `*` nor an origin such as `https://app.example:8443`.
    """

    def __init__(self, origins: Sequence[str], local: Container[bytes] | None = None) -> None:
        for origin in origins:
            check_origin(origin)
        named = {origin.encode("latin-1") for origin in origins if origin not in ("*", LOCAL)}
        self._allows_any = "*" in origins
        self._local: Container[bytes] = ()
        embedding = b"cross-origin" if origins else b"same-origin"
        if LOCAL in origins and not self._allows_any:
            self._local = local or ()
            embedding = (
                b"same-site"  # so pages of this machine can embed streams, and strangers cannot
            )
        # Whether a preflight lists methods and headers for any origin. Without Access-Control-Allow-Origin, the lists allow a page nothing.
        # The official conformance suite asks for the lists.
        self._always_lists = self._allows_any or self._local != ()
        headers = [*_SECURITY, (b"cross-origin-resource-policy", embedding)]
        self._varies = bool(named) or self._local != ()
        self._allowed = {
            origin: _commons([*_EMBEDDABLE, *_allow(origin), _CREDENTIALS], True)
            for origin in named
        }
        self._others = _commons(headers + (_allow(b"*") if self._allows_any else []), self._varies)

    def preflight(self, request: Request, allow: bytes = METHODS) -> Response:
        """Returns the response to OPTIONS, which precedes any authorisation (TRAPS 44). It lists the allowed methods and headers.

        Args:
            request: The request.
            allow: The methods of the request's path.
        """
        headers: list[Header] = [(b"allow", allow), (b"cache-control", b"no-store")]
        if self._always_lists or request.headers.get(ORIGIN) in self._allowed:
            headers += [
                (b"access-control-allow-methods", METHODS),
                (b"access-control-allow-headers", _REQUEST_HEADERS + _more_headers(request)),
                (b"access-control-max-age", _PREFLIGHT_AGE),
            ]
        return Response(204, headers)

    def finish(self, request: Request, response: Response) -> Response:
        """Adds the common headers to a response and returns it."""
        commons = self._others
        if self._varies and (origin := request.headers.get(ORIGIN)) is not None:
            commons = self._allowed.get(origin) or self._commons_for(origin)
        response.common = commons[response.vary_encoding]
        return response

    def _commons_for(self, origin: bytes) -> _Commons:
        """Returns the common headers of responses to pages of an origin that is not listed, and keeps them if the origin is local."""
        if origin not in self._local:
            return self._others
        commons = _commons([*_EMBEDDABLE, *_allow(origin)], True)
        if len(self._allowed) < _KEPT:
            self._allowed[origin] = commons
        return commons


def _allow(origin: bytes) -> list[Header]:
    """Returns the CORS headers that let scripts of an origin read responses."""
    return [
        (b"access-control-allow-origin", origin),
        (b"access-control-expose-headers", _EXPOSED),
    ]


def _commons(headers: list[Header], varies: bool) -> _Commons:
    """Returns the common headers of responses that do not vary with Accept-Encoding, and of responses that do.

    Args:
        headers: The common headers without `Vary`.
        varies: Whether all responses vary with Origin.
    """
    names = [b"Origin"] if varies else []
    without = [(b"vary", b"Origin")] if varies else []
    vary = (b"vary", b", ".join([*names, b"Accept-Encoding"]))
    return Common([*headers, *without]), Common([*headers, vary])


def _more_headers(request: Request) -> bytes:
    """Returns the header names that a preflight asks for and the protocol does not use, each after a comma.

    They are all allowed, because tracing tools and applications add headers of their own, and the server ignores unknown headers. An
    invalid or very long list adds no name.
    """
    asked = request.headers.get(b"access-control-request-headers", b"")
    if len(asked) > _LONGEST_ASKED:
        return b""
    names = {name.strip(b" \t").lower(): None for name in asked.split(b",")}
    if not all(map(_TOKEN.fullmatch, names)):
        return b""
    return b"".join(b", " + name for name in names if name not in _KNOWN_HEADERS)
