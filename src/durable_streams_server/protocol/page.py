"""The result of one bounded read of a stream."""

import msgspec

from .state import StreamState


class Page(msgspec.Struct, gc=False):
    """A page: the bytes of one bounded read of a stream.

    Attributes:
        state: the state of the stream.
        start: the position of the page's first byte.
        end: the position after the page's last byte.
        data: the wire bytes from `start` to `end`.
        at_tail: whether `end` is the visible tail.
        closed: whether the stream is closed and the page reaches its end.
        holder: an object that counts the memory of large pages, or None. The caller must keep it for as long as it keeps `data`.
    """

    state: StreamState
    start: int
    end: int
    data: bytes
    at_tail: bool
    closed: bool
    holder: object = None
