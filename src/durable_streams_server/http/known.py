"""Requests that are known by their octets: a client that polls sends the same octets again and again.

The parser has found what they mean, and between two requests it has no memory: the same octets mean the same. So they are looked
up and not parsed again. Only GET and HEAD without a body are kept, and only if they came in one piece, with nothing behind them.
"""

from collections import OrderedDict
from typing import Final

from ..protocol.names import CONTENT_LENGTH, KIB, TRANSFER_ENCODING
from .repeats import Repeats
from .request import Request

LONGEST: Final = KIB  #: octets of a request that is kept
END: Final = b"\r\n\r\n"  #: how it ends
_KNOWN: Final = 4096  # requests; with at most so many headers, one takes 8 KiB or less
_MOST_HEADERS: Final = 24
#: Headers that say something of what follows the head, or of who may say so.
_TELLING: Final = frozenset(
    (CONTENT_LENGTH, TRANSFER_ENCODING, b"upgrade", b"expect", b"x-forwarded-proto")
)


class KnownRequests:
    """The requests of one server that have come twice, the oldest of which make room for new ones."""

    def __init__(self) -> None:
        # A dict finds its oldest slowly.
        self._requests: OrderedDict[bytes, Request] = OrderedDict()
        self._repeats = Repeats()
        #: Returns the request that octets are, or None. Nobody may change it.
        self.find = self._requests.get

    def keep(self, octets: bytes, request: Request) -> None:
        """Keeps a request that a parser has found in octets that it was given between two requests.

        It does so if such octets will always mean that request, and have come before.
        """
        headers = request.headers
        if not self._repeats.again(octets):
            return
        if octets.partition(END)[1:] != (END, b"") or request.method not in ("GET", "HEAD"):
            return
        if len(headers) > _MOST_HEADERS or not _TELLING.isdisjoint(headers):
            return
        if len(self._requests) >= _KNOWN:
            self._requests.popitem(last=False)
        self._requests[octets] = request
