"""A page: one bounded read of a stream."""

import msgspec

from .state import StreamState


class Page(msgspec.Struct, gc=False):
    """One bounded read.

    Attributes:
        state: the stream.
        start: the position that the page begins at.
        end: the position after its last byte.
        data: wire bytes from start to end.
        at_tail: whether `end` is the tail that readers may see.
        closed: whether the stream is closed and this page reaches its end.
        holder: what must be held for as long as the data is, or None: it counts large pages.
    """

    state: StreamState
    start: int
    end: int
    data: bytes
    at_tail: bool
    closed: bool
    holder: object = None
