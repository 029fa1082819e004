"""Computes the values of ETag and Cache-Control (PROTOCOL 10)."""

from collections.abc import Mapping
from typing import Final

from .names import AUTHORIZATION, COOKIE
from .offsets import Offset, Sentinel
from .state import StreamState
from .units import SECOND

NO_STORE: Final = b"no-store"
REVALIDATE: Final = b"no-cache"
EVENTS: Final = b"no-cache, no-transform"  # a proxy that compresses would delay events
#: Maximum seconds for which caches keep a page that can never change. It bounds how long caches serve pages of a deleted stream,
#: or pages that a restored backup lacks. After this day, caches revalidate the page, and the server answers 304.
SETTLED_MAX_AGE: Final = 86_400
_NO_HEADERS: Final[Mapping[bytes, bytes]] = {}


def etag(state: StreamState, start: int, end: int, at_tail: bool, closed: bool) -> bytes:
    """Returns the entity tag of one page.

    The tag changes when the stream is closed, so that no 304 hides the end of the stream (PROTOCOL 10.1). The tag also says whether
    the page ends at the tail, because the response then has `Stream-Up-To-Date`.
    """
    mark = b":c" if closed else b":t" if at_tail else b""
    return b'"%016d:%d:%d%s"' % (state.incarnation, start, end, mark)


def etag_matches(if_none_match: bytes, tag: bytes) -> bool:
    """Returns whether an If-None-Match value includes a tag, by weak comparison (RFC 9110, 13.1.2)."""
    if if_none_match.strip() == b"*":
        return True
    candidates = (part.strip().removeprefix(b"W/") for part in if_none_match.split(b","))
    return tag in candidates


def compressed_etag(tag: bytes) -> bytes:
    """Returns the tag of a page compressed with gzip.

    The compressed bytes differ, so they need a strong tag of their own (RFC 9110, 8.8.3).
    """
    return tag[:-1] + b':gz"'


def is_settled(state: StreamState, offset: Offset | Sentinel, at_tail: bool, closed: bool) -> bool:
    """Returns whether every later read of this URL gets the same page or an error.

    A page at the tail of an open stream can grow. Any other page cannot change, but a later stream at the path can be read with the
    same URL, unless the offset names this stream's incarnation. An offset that a fork inherits names the source's incarnation, and
    a later fork at the path may share that offset but not the bytes after it.

    Args:
        state: the stream.
        offset: the offset in the URL.
        at_tail: whether the page ends at the tail.
        closed: whether the stream is closed and the page reaches its end.
    """
    if at_tail and not closed:
        return False
    return isinstance(offset, Offset) and offset.incarnation == state.incarnation


def page_cache_control(
    state: StreamState,
    now: int,
    *,
    settled: bool,
    headers: Mapping[bytes, bytes] = _NO_HEADERS,
    shared_age: int = 0,
) -> bytes:
    """Returns the Cache-Control value of a page. Caches keep a page no longer than its stream can live.

    Args:
        state: the stream.
        now: microseconds of steady time.
        settled: whether the page can never change, from `is_settled`. Caches revalidate any other page.
        headers: the headers of the request. A shared cache must not keep a page that was requested with credentials
            (PROTOCOL 10.1, 12.2), unless the stream is public.
        shared_age: the seconds for which shared caches may keep a page that can change.
    """
    if not (settled or shared_age):
        return REVALIDATE
    is_private = not state.public and (AUTHORIZATION in headers or COOKIE in headers)
    if settled:
        age = _within_life(state, now, SETTLED_MAX_AGE)
        return b"%b, max-age=%d" % (b"private" if is_private else b"public", age)
    if is_private:
        return REVALIDATE
    age = _within_life(state, now, shared_age)
    return b"public, max-age=0, s-maxage=%d, must-revalidate" % age


def _within_life(state: StreamState, now: int, age: int) -> int:
    """Returns `age`, or the seconds for which the stream can still live after this use, if they are fewer."""
    deadline = state.deadline_if_used(now) if state.mortal else None
    return age if deadline is None else max(0, min(age, (deadline - now) // SECOND))
