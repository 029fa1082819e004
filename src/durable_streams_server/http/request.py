"""One request as the handler sees it, whichever adapter carried it."""

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
    FORWARDED,
    IF_MATCH,
    IF_NONE_MATCH,
    SINGLETONS,
    TRANSFER_ENCODING,
    X_FORWARDED_PROTO,
)

_MAX_DIGITS: Final = (
    18  # so that a size is below 2^63; Python refuses to convert thousands of digits
)

_NONE: Final[frozenset[bytes]] = frozenset()
#: Lists that decide something here. Sent in several lines, the lines are one list (RFC 9110, 5.3).
LISTS: Final = frozenset(
    {ACCEPT_ENCODING, CONTENT_ENCODING, FORWARDED, IF_MATCH, IF_NONE_MATCH, X_FORWARDED_PROTO}
)


class KnownHead(msgspec.Struct):
    """What is found out once for all requests with the same head.

    Attributes:
        append: the append that it asks for, without a body; None until one was made of it.
    """

    append: Append | None = None


class Request(msgspec.Struct):
    """A request's head, and its body once it has been read.

    Attributes:
        method: in capitals.
        raw_path: the path as on the wire, percent-encoded, the mount prefix included.
        query: the octets after the question mark.
        headers: by lower-case name; of one sent twice, the first value, or the whole list if it is one of `LISTS`.
        repeated: names of headers that were sent more than once.
        header_bytes: the size of names and values together.
        scheme: `http` or `https`.
        root_path: the decoded prefix that the application is mounted under, or the empty string.
        declared: the size of the body as its head says, or None when it comes in chunks or there is none. `check_limits` finds
            it.
        body: the whole body.
        known: shared by all requests with this head, if the head is kept.
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

    @property
    def is_cheap(self) -> bool:
        """Whether it may pass the writes that stand in line. To begin a live read costs as much as a write does."""
        return self.method in ("GET", "HEAD") and b"live=" not in self.query

    def check_limits(self, max_body: int) -> None:
        """Finds what the head says of the body, and refuses what is too large or has no one meaning, before any body is read.

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


#: Stands for a request of which nothing is known. Nobody may change it.
NO_REQUEST: Final = Request("GET", b"/", b"", {})


def index_headers(
    pairs: Iterable[tuple[bytes, bytes]],
) -> tuple[dict[bytes, bytes], frozenset[bytes], int]:
    """Returns headers by name, the names of repeated ones, and their size together."""
    headers: dict[bytes, bytes] = {}
    repeated: dict[bytes, list[bytes]] = {}
    size = 0
    for name, value in pairs:
        size += len(name) + len(value)
        if name in headers:
            repeated.setdefault(name, []).append(value.strip(b" \t"))
        else:
            headers[name] = value.strip(b" \t")  # RFC 9110, 5.5; some servers leave it
    return headers, join_lists(headers, repeated) if repeated else _NONE, size


def join_lists(headers: dict[bytes, bytes], repeated: dict[bytes, list[bytes]]) -> frozenset[bytes]:
    """Makes one list of each of `LISTS` that came in several lines, and returns the names of all headers that did.

    Args:
        headers: the first line of each.
        repeated: the other lines, by name.
    """
    for name in LISTS & repeated.keys():
        headers[name] = b", ".join((headers[name], *repeated[name]))
    return frozenset(repeated)


def _number(value: bytes) -> int:
    """Returns the size that a Content-Length names; of one with more digits than any body has, a size past every limit.

    Raises:
        BadRequest: it is no number, as 1*DIGIT (RFC 9110, 8.6).
    """
    if not value.isdigit():
        raise BadRequest("Content-Length is not a plain whole number", "INVALID_HTTP")
    if len(value) > _MAX_DIGITS:
        value = value.lstrip(b"0") or b"0"
        if len(value) > _MAX_DIGITS:
            return sys.maxsize
    return int(value)


def too_large(max_body: int) -> TooLarge:
    """Returns the refusal of a body that is larger than `max_body` bytes."""
    return TooLarge(f"the body is larger than {max_body} bytes")
