"""Requests that are known by the octets of their heads: a client that polls, or appends, sends the same head again and again.

The parser has found what the head means, and between two requests it has no memory: the same octets mean the same. So they are
looked up and not parsed again. A head is kept if its request came in one piece, with nothing before or behind it: of GET and HEAD
without a body, and of POST with a body as long as the head says.
"""

from collections import OrderedDict
from typing import Final

import msgspec

from ...protocol.names import (
    CONTENT_LENGTH,
    FORWARDED,
    PRODUCER_SEQ,
    TRANSFER_ENCODING,
    X_FORWARDED_PROTO,
)
from ...protocol.units import KIB
from ..repeats import Repeats
from ..request import KnownHead, Request

LONGEST: Final = 4 * KIB  #: octets of a request that is looked up
END: Final = b"\r\n\r\n"  #: how a head ends
_LONGEST_HEAD: Final = KIB  # that is kept
_KNOWN: Final = 4096  # heads; with at most so many headers, one takes 8 KiB or less
_MOST_HEADERS: Final = 24
#: Headers that say something of what follows the head, or of who may say so.
_TELLING: Final = frozenset(
    (TRANSFER_ENCODING, b"upgrade", b"expect", X_FORWARDED_PROTO, FORWARDED)
)


class KnownRequests:
    """The requests of one server whose heads have come twice, the oldest of which make room for new ones."""

    def __init__(self) -> None:
        # A dict finds its oldest slowly.
        self._requests: OrderedDict[bytes, Request] = OrderedDict()
        self._repeats = Repeats()
        #: Returns the request that a head begins, or None. Nobody may change it.
        self.find = self._requests.get

    def keep(self, octets: bytes, request: Request) -> None:
        """Keeps a request, if such a head will always mean it, and has come before.

        Args:
            octets: what a parser was given between two requests: this one from its beginning to its end, and nothing else.
            request: what the parser has found.
        """
        head = octets[: len(octets) - (request.declared or 0)]
        if len(head) > _LONGEST_HEAD or not self._repeats.again(head):
            return
        headers = request.headers
        is_bare = request.method in ("GET", "HEAD") and CONTENT_LENGTH not in headers
        is_append = request.method == "POST" and PRODUCER_SEQ not in headers
        if not (is_bare or is_append) or head.find(END) != len(head) - len(END):
            return
        if len(headers) > _MOST_HEADERS or not _TELLING.isdisjoint(headers):
            return
        if len(self._requests) >= _KNOWN:
            self._requests.popitem(last=False)
        if is_append:
            request = msgspec.structs.replace(request, body=b"", known=KnownHead())
        self._requests[head] = request


def with_body(known: Request, body: bytes) -> Request:
    """Returns a known request with a body of its own."""
    return Request(
        known.method,
        known.raw_path,
        known.query,
        known.headers,
        known.repeated,
        known.header_bytes,
        known.scheme,
        known.root_path,
        known.declared,
        body,
        known.known,
    )
