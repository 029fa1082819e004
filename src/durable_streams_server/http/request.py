"""One request as the handler sees it, whichever adapter carried it."""

from collections.abc import Iterable
from typing import Final

import msgspec

from ..errors import BadRequest, HeadersTooLarge, TooLarge, UriTooLong
from ..protocol.names import (
    CONTENT_LENGTH,
    MAX_HEADER_BYTES,
    MAX_HEADER_COUNT,
    MAX_URL_BYTES,
    SINGLETONS,
    TRANSFER_ENCODING,
)


class Request(msgspec.Struct):
    """A request's head, and its body once it has been read.

    Attributes:
        method: in capitals.
        raw_path: the path as on the wire, percent-encoded, the mount prefix included.
        query: the octets after the question mark.
        headers: by lower-case name; of one sent twice, the first value.
        repeated: names of headers that were sent more than once.
        header_bytes: the size of names and values together.
        scheme: `http` or `https`.
        root_path: the decoded prefix that the application is mounted under, or the empty string.
        declared: the size of the body as its head says, or None when it comes in chunks or there is none.
        body: the whole body.
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

    def check_limits(self, max_body: int) -> None:
        """Refuses by the head alone what is too large or has no one meaning, before any body is read.

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
        if self.declared is None:
            if self.headers.get(TRANSFER_ENCODING, b"chunked").lower() != b"chunked":
                raise BadRequest("the body's transfer coding is not known here", "INVALID_HTTP")
        elif self.declared > max_body:
            raise too_large(max_body)


#: Stands for a request of which nothing is known. Nobody may change it.
NO_REQUEST: Final = Request("GET", b"/", b"", {})


def index_headers(
    pairs: Iterable[tuple[bytes, bytes]],
) -> tuple[dict[bytes, bytes], frozenset[bytes], int]:
    """Returns headers by name, the names of repeated ones, and their size together."""
    headers: dict[bytes, bytes] = {}
    repeated: set[bytes] = set()
    size = 0
    for name, value in pairs:
        size += len(name) + len(value)
        if name in headers:
            repeated.add(name)
        else:
            headers[name] = value.strip(b" \t")  # RFC 9110, 5.5; some servers leave it
    return headers, frozenset(repeated), size


def declared_length(headers: dict[bytes, bytes]) -> int | None:
    """Returns what Content-Length says, if it is there."""
    value = headers.get(CONTENT_LENGTH)
    return int(value) if value is not None and value.isdigit() else None


def too_large(max_body: int) -> TooLarge:
    """Returns the refusal of a body that is larger than `max_body` bytes."""
    return TooLarge(f"the body is larger than {max_body} bytes")
