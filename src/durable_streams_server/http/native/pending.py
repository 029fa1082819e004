"""A request that has arrived on a connection of the native lane and has not been answered."""

import msgspec

from ..limits.budget import Incoming
from ..request import Request


class PendingRequest(msgspec.Struct):
    """A whole request that waits for its answer, or the refusal that will answer it.

    Attributes:
        request: the request. If it is refused before it is whole, this has the parts that were parsed.
        keep_alive: whether the client may send another request after this one.
        chunked: whether the client understands chunked responses, as every HTTP/1.1 client does.
        taken: bytes that the request holds of the receive budget, besides those of `incoming`.
        refusal: the error to answer with instead of handling the request, or None.
        incoming: the body's share of the receive budget if the body came in several parts, otherwise None.
    """

    request: Request
    keep_alive: bool
    chunked: bool
    taken: int
    refusal: Exception | None
    incoming: Incoming | None = None
