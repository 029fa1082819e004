"""The data of a request between its parsing and its response."""

import msgspec

from ..limits.budget import Incoming
from ..observing.observer import LiveRead
from ..request import Request


class PendingRequest(msgspec.Struct):
    """A whole request that waits for its answer, or the refusal that will answer it.

    Attributes:
        request: the request, or the parts of it that were parsed before it was refused.
        keep_alive: whether the client may send another request after this one.
        chunked: whether the client understands chunked responses, as every HTTP/1.1 client does.
        taken: bytes of the request that count against the receive budget, besides those of `incoming`.
        refusal: the error to answer with instead of handling the request, or None.
        since: time of the observer's clock when the whole request was parsed.
        incoming: the object that counts a body that arrived in several parts against the budget, or None for other bodies.
        live: the object that counts the event stream that is being sent, or None.
        body_wait: seconds from the first part of the body to its end, if the body arrived in several reads.
        queue_wait: seconds that the request waited for its turn, or for earlier requests on its connection.
    """

    request: Request
    keep_alive: bool
    chunked: bool
    taken: int
    refusal: Exception | None
    since: float
    incoming: Incoming | None = None
    live: LiveRead | None = None
    body_wait: float = 0.0
    queue_wait: float = 0.0
