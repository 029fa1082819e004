"""Keeps responses that depend only on a stream's state: responses to HEAD, and the empty page at the tail.

A client that polls gets the same response until the stream changes. So the response is kept as octets, together with the stream's state
that it was made from. The handler looks the stream up for every request, and uses a kept response only if the state is still the same.
"""

from collections import OrderedDict
from typing import Final

import msgspec

from ..protocol.names import IF_NONE_MATCH
from ..protocol.render import Response
from ..protocol.state import StreamState
from ..protocol.units import KIB
from . import wire
from .repeats import Repeats
from .request import Request

_KEPT: Final = 4096  # maximum number of responses, each of 2 KiB on average, at most 8 KiB
_LONGEST: Final = KIB  # maximum octets of a request whose response is kept
_LARGEST: Final = 2 * KIB  # maximum octets of a response that is kept

Key = tuple[str, bytes, bytes, str, bytes | None, bytes | None]


class KeptResponse(Response, gc=False):
    """A response whose octets on an HTTP/1.1 connection are known, except for the date. It must not be changed.

    Attributes:
        before: octets before the Date header: the status line and the headers.
        after: octets after the Date header: the Content-Length header, the end of the head, and the body.
    """

    before: bytes = b""
    after: bytes = b""


class Kept(msgspec.Struct, frozen=True, gc=False):
    """A kept response, and the state of the stream that the response was made from.

    Attributes:
        path: the decoded path of the stream.
        incarnation: the stream's incarnation.
        tail: the stream's visible tail.
        closed: whether the stream was visibly closed.
        response: the whole response.
    """

    path: str
    incarnation: int
    tail: int
    closed: bool
    response: KeptResponse

    def is_current(self, state: StreamState) -> bool:
        """Returns whether the response is still right, because the stream has not changed."""
        return (
            self.tail == state.visible_tail
            and self.incarnation == state.incarnation
            and self.closed is state.visible_closed
        )


class KeptAnswers:
    """Keeps the responses of one handler to requests that were received twice. The oldest are evicted to make room."""

    def __init__(self) -> None:
        self._answers: OrderedDict[Key, Kept] = (
            OrderedDict()
        )  # a dict is slow to find its oldest key
        self._repeats = Repeats()

    def __len__(self) -> int:
        """Returns how many responses are kept."""
        return len(self._answers)

    def find(self, request: Request) -> Kept | None:
        """Returns the kept response to the same request, or None. The caller must check that it is current."""
        return self._answers.get(_key(request))

    def keep(self, request: Request, state: StreamState, response: Response) -> Response:
        """Keeps the response to a GET or HEAD request that was received before, and returns the response in its kept form.

        The response must depend on nothing but the request and the attributes of `Kept`. If it is not kept, it is returned unchanged.
        """
        key = _key(request)
        if not self._repeats.has_seen(key):
            return response
        if request.header_bytes + len(request.raw_path) + len(request.query) > _LONGEST:
            return response
        before, after = (
            wire.status_and_headers(response),
            wire.length_and_body(response, request.method == "HEAD"),
        )
        if len(before) + len(after) > _LARGEST:
            return response
        answers = self._answers
        if key not in answers and len(answers) >= _KEPT:
            answers.popitem(last=False)
        kept = KeptResponse(
            response.status,
            response.headers,
            response.body,
            vary_encoding=response.vary_encoding,
            common=response.common,
            array=response.array,
            before=before,
            after=after,
        )
        answers[key] = Kept(
            state.path, state.incarnation, state.visible_tail, state.visible_closed, kept
        )
        return kept


def _key(request: Request) -> Key:
    """Returns the parts of a request that a kept response may depend on."""
    headers = request.headers
    return (
        request.method,
        request.raw_path,
        request.query,
        request.root_path,
        headers.get(IF_NONE_MATCH),
        headers.get(b"origin"),
    )
