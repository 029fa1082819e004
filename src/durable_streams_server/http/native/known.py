"""Recognises requests by the octets of their heads, because a client that polls or appends sends the same head again and again.

The parser llhttp keeps no state between two requests, so the same octets always mean the same request and need not be parsed again. A
request is kept if it arrived in one piece, with no other octets before or after it. It must be a GET or HEAD request without a body, or a
POST request whose body has a Content-Length.
"""

from collections import OrderedDict
from typing import Final

import msgspec

from ...protocol.names import (
    CONTENT_LENGTH,
    PRODUCER_SEQ,
    TRANSFER_ENCODING,
)
from ...protocol.units import KIB
from ..observing.routes import route_of
from ..proxies import FORWARDING_HEADERS
from ..repeats import Repeats
from ..request import KnownHead, Request

#: Maximum octets of a request that is looked up. Larger requests are parsed.
LONGEST: Final = 4 * KIB
#: The end of a head.
END: Final = b"\r\n\r\n"
_LONGEST_HEAD: Final = KIB  # maximum octets of a head that is kept
_KNOWN: Final = 4096  # maximum number of kept heads, each of which takes 8 KiB or less
_MOST_HEADERS: Final = 24  # maximum number of headers of a head that is kept
#: A request with one of these headers is never kept, because its meaning depends on the octets after the head or on the peer.
_EXCLUDED: Final = FORWARDING_HEADERS.union((TRANSFER_ENCODING, b"upgrade", b"expect"))


class KnownRequests:
    """Keeps the requests of one server whose heads were received twice. The oldest requests are evicted to make room."""

    def __init__(self) -> None:
        # not a dict, which is slow to find its oldest key
        self._requests: OrderedDict[bytes, Request] = OrderedDict()
        self._repeats = Repeats()
        #: Returns the request that has this head, or None. The caller must not change the request.
        self.find = self._requests.get

    def keep(self, octets: bytes, request: Request) -> None:
        """Keeps a request if its head always means the same request and was received before.

        Args:
            octets: the octets of the whole request, and nothing else.
            request: the request that the parser made from the octets.
        """
        head = octets[: len(octets) - (request.declared or 0)]
        if len(head) > _LONGEST_HEAD or not self._repeats.has_seen(head):
            return
        headers = request.headers
        is_bare = request.method in ("GET", "HEAD") and CONTENT_LENGTH not in headers
        is_append = request.method == "POST" and PRODUCER_SEQ not in headers
        if not (is_bare or is_append) or head.find(END) != len(head) - len(END):
            return
        if len(headers) > _MOST_HEADERS or not _EXCLUDED.isdisjoint(headers):
            return
        request.route = route_of(request)
        if len(self._requests) >= _KNOWN:
            self._requests.popitem(last=False)
        if is_append:
            request = msgspec.structs.replace(request, body=b"")
        request.known = KnownHead()
        self._requests[head] = request


def with_body(known: Request, body: bytes) -> Request:
    """Returns a copy of a known request with another body."""
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
        known.route,
    )
