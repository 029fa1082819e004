"""Answers that are kept because they depend on nothing but a stream's state: what HEAD tells, and the empty page at the tail.

A client that polls asks the same again and again, and is told the same until the stream changes. So its answer is kept as octets,
with the state that it was made of. Whoever uses a kept answer looks at the stream first, as for any other, and compares.
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

_KEPT: Final = 4096  # answers; one takes 2 KiB, and never more than 8
_LONGEST: Final = KIB  # octets of a request whose answer is kept
_LARGEST: Final = 2 * KIB  # octets of an answer that is kept

Key = tuple[str, bytes, bytes, str, bytes | None, bytes | None]


class KeptResponse(Response, gc=False):
    """A response whose octets on an HTTP/1.1 connection are known but for the date. Nobody may change it.

    Attributes:
        before: the status line, and all headers but those of the framing.
        after: what follows the date: the length, the end of the head, the body.
    """

    before: bytes = b""
    after: bytes = b""


class Kept(msgspec.Struct, frozen=True, gc=False):
    """An answer, and the state of the stream that it was made of.

    Attributes:
        path: the stream's path, decoded.
        incarnation: the stream's incarnation.
        tail: its visible tail.
        closed: whether readers saw it closed.
        response: the answer, finished.
    """

    path: str
    incarnation: int
    tail: int
    closed: bool
    response: KeptResponse

    def is_true_of(self, state: StreamState) -> bool:
        """Whether the stream is as it was."""
        return (
            self.tail == state.visible_tail
            and self.incarnation == state.incarnation
            and self.closed is state.visible_closed
        )


class KeptAnswers:
    """The answers of one handler to what is asked again, the oldest of which make room for new ones."""

    def __init__(self) -> None:
        self._answers: OrderedDict[Key, Kept] = OrderedDict()  # a dict finds its oldest slowly
        self._repeats = Repeats()

    def __len__(self) -> int:
        """Returns how many answers are kept."""
        return len(self._answers)

    def find(self, request: Request) -> Kept | None:
        """Returns the answer that such a request got last, which may be out of date."""
        return self._answers.get(_key(request))

    def keep(self, request: Request, state: StreamState, response: Response) -> Response:
        """Keeps the finished answer to a GET or HEAD that came before, and returns it in the form that is kept.

        It must follow from the request and what `Kept` compares, and have a small body.
        """
        key = _key(request)
        if not self._repeats.again(key):
            return response
        if request.header_bytes + len(request.raw_path) + len(request.query) > _LONGEST:
            return response
        before, after = wire.beginning(response), wire.ending(response, request.method == "HEAD")
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
    """Returns all of a request that its answer may depend on, if that is kept."""
    headers = request.headers
    return (
        request.method,
        request.raw_path,
        request.query,
        request.root_path,
        headers.get(IF_NONE_MATCH),
        headers.get(b"origin"),
    )
