"""An HTTP request as the handler sees it, whichever adapter received it."""

import sys
from collections.abc import Iterable
from typing import Final

import msgspec

from ..errors import BadRequest, HeadersTooLarge, TooLarge, UriTooLong
from ..protocol.commands import Append
from ..protocol.limits import MAX_HEADER_BYTES, MAX_HEADER_COUNT, MAX_URL_BYTES
from ..protocol.names import (
    ACCEPT_ENCODING,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    COOKIE,
    FORWARDED,
    IF_MATCH,
    IF_NONE_MATCH,
    SINGLETONS,
    TRACESTATE,
    TRANSFER_ENCODING,
    X_FORWARDED_FOR,
    X_FORWARDED_PROTO,
)
from .gate.permit import Permit

#: Most digits of a Content-Length. With 18 digits a size is below 2^63, and Python refuses to convert thousands of digits.
_MAX_DIGITS: Final = 18

_NONE: Final[frozenset[bytes]] = frozenset()
#: The value of `Request.route` until the handler marks the request.
UNROUTED: Final = 0
#: Headers whose values are lists. If such a header is sent in several lines, the lines are joined (RFC 9110, 5.3; RFC 9113, 8.2.3).
LISTS: Final = frozenset(
    {
        ACCEPT_ENCODING,
        CONTENT_ENCODING,
        COOKIE,
        FORWARDED,
        IF_MATCH,
        IF_NONE_MATCH,
        TRACESTATE,
        X_FORWARDED_FOR,
        X_FORWARDED_PROTO,
    }
)


class KnownHead(msgspec.Struct):
    """Facts that are computed once for all requests with the same head.

    Attributes:
        append: the append command that the head asks for, without its body, or None until the handler has made one.
        permit: the gate's permit for the last request with the head, or None if the gate has not decided yet.
    """

    append: Append | None = None
    permit: Permit | None = None


class Request(msgspec.Struct):
    """A request's head, and its body once the body has been received.

    Attributes:
        method: the method in capitals.
        raw_path: the path as received, percent-encoded and with the mount prefix.
        query: the octets after the question mark.
        headers: header values by lower-case name. A header that was sent more than once has its first value, or the joined list
            if it is one of `LISTS`.
        repeated: names of the headers that were sent more than once.
        header_bytes: total size of the header names and values in bytes.
        scheme: `http` or `https`.
        root_path: the decoded path under which the application is mounted, or the empty string.
        declared: the value of Content-Length, or None without one. `check_limits` sets it.
        body: the whole body.
        known: facts that all requests with this head share if the head is kept, otherwise None.
        until: when a live read must end because the guard says so, in microseconds since 1970, or None.
        route: the route that responses are counted by (`observing/routes.py`). `UNROUTED` if it follows from the method and the query.
        client: the address under which the client is counted if a trusted proxy has named the client, otherwise None.
        id: the id of the request if the observer wants every request named, otherwise empty.
        subject: the subject of the client's token if the request has an id, otherwise None.
    """

    method: str
    raw_path: bytes
    query: bytes
    headers: dict[bytes, bytes]
    repeated: frozenset[bytes] = frozenset()
    header_bytes: int = 0
    scheme: str = "http"
    root_path: str = ""
    declared: int | None = None
    body: bytes = b""
    known: KnownHead | None = None
    route: int = UNROUTED
    until: int | None = None
    client: str | None = None
    id: bytes = b""
    subject: str | None = None

    def __repr__(self) -> str:
        """Returns the method and the path. Leaves out the headers and the query, which may contain a token, and the body."""
        return f"Request({self.method!r}, {self.raw_path!r})"

    def __rich_repr__(self) -> list[tuple[str, str | bytes]]:
        """Returns the method and the path, for the library `rich`, which calls this method to print an object."""
        return [("method", self.method), ("raw_path", self.raw_path)]

    @property
    def is_cheap(self) -> bool:
        """Whether the request may pass writes that are queued. A live read may not, because it costs as much to begin as a write."""
        return self.method in ("GET", "HEAD") and b"live=" not in self.query

    @property
    def is_live(self) -> bool:
        """Whether the request is a live read: a long-poll or an event stream."""
        return self.method == "GET" and b"live=" in self.query

    def check_limits(self, max_body: int) -> None:
        """Sets `declared`, and refuses a head that is too large or ambiguous, before any of the body is received.

        Args:
            max_body: size of the largest allowed body in bytes.

        Raises:
            UriTooLong, HeadersTooLarge, TooLarge, BadRequest.
        """
        if len(self.raw_path) + len(self.query) > MAX_URL_BYTES:
            raise UriTooLong(f"the URL is longer than {MAX_URL_BYTES} bytes")
        if self.header_bytes > MAX_HEADER_BYTES or len(self.headers) > MAX_HEADER_COUNT:
            raise HeadersTooLarge("the request has too many or too large headers")
        if self.repeated and (twice := self.repeated & SINGLETONS):
            name = min(twice).decode("ascii")
            raise BadRequest(f"{name} is given more than once", "REPEATED_HEADER")
        headers = self.headers
        if TRANSFER_ENCODING in headers:
            if headers[TRANSFER_ENCODING].lower() != b"chunked":
                raise BadRequest("the body's transfer coding is not known here", "INVALID_HTTP")
            if CONTENT_LENGTH in headers:  # RFC 9112, 6.1
                raise BadRequest("the body has a length and a transfer coding", "INVALID_HTTP")
        elif CONTENT_LENGTH in headers:
            text = headers[CONTENT_LENGTH]
            is_plain = text.isdigit() and len(text) <= _MAX_DIGITS
            declared = self.declared = int(text) if is_plain else _number(text)
            if declared > max_body:
                raise too_large(max_body)


#: The methods that change nothing.
SAFE_METHODS: Final = ("GET", "HEAD", "OPTIONS")
#: A placeholder for a request of which nothing is known. It must not be changed.
NO_REQUEST: Final = Request("GET", b"/", b"", {})


def index_headers(
    pairs: Iterable[tuple[bytes, bytes]],
) -> tuple[dict[bytes, bytes], frozenset[bytes], int]:
    """Returns headers by lower-case name, the names of repeated headers, and the total size of names and values in bytes."""
    headers: dict[bytes, bytes] = {}
    repeated: dict[bytes, list[bytes]] = {}
    size = 0
    for name, value in pairs:
        size += len(name) + len(value)
        if name in headers:
            repeated.setdefault(name, []).append(value.strip(b" \t"))
        else:
            headers[name] = value.strip(
                b" \t"
            )  # some host servers leave white space (RFC 9110, 5.5)
    return headers, join_lists(headers, repeated) if repeated else _NONE, size


def join_lists(headers: dict[bytes, bytes], repeated: dict[bytes, list[bytes]]) -> frozenset[bytes]:
    """Joins the lines of each repeated header in `LISTS`, and returns the names of all repeated headers.

    Args:
        headers: the first value of each header by name. The joined lists replace their first values.
        repeated: the further values of repeated headers by name.
    """
    for name in LISTS & repeated.keys():
        separator = b"; " if name == COOKIE else b", "
        headers[name] = separator.join((headers[name], *repeated[name]))
    return frozenset(repeated)


def _number(value: bytes) -> int:
    """Returns the number in a Content-Length, or `sys.maxsize` if it has more digits than the size of any body.

    Raises:
        BadRequest: the value is not 1*DIGIT (RFC 9110, 8.6).
    """
    if not value.isdigit():
        raise BadRequest("Content-Length is not a plain whole number", "INVALID_HTTP")
    if len(value) > _MAX_DIGITS:
        value = value.lstrip(b"0") or b"0"
        if len(value) > _MAX_DIGITS:
            return sys.maxsize
    return int(value)


def too_large(max_body: int) -> TooLarge:
    """Returns the error that refuses a body of more than `max_body` bytes."""
    return TooLarge(f"the body is larger than {max_body} bytes")
