"""ETag and Cache-Control (PROTOCOL 10)."""

from typing import Final

from .lifetime import MICROSECONDS
from .state import StreamState

NO_STORE: Final = b"no-store"
REVALIDATE: Final = b"no-cache"
_MAX_AGE: Final = 60  # seconds, PROTOCOL 10.1
_STALE_WHILE_REVALIDATE: Final = 300
_CACHEABLE: Final = b"public, max-age=60, stale-while-revalidate=300"


def etag(state: StreamState, start: int, end: int, at_tail: bool, closed: bool) -> bytes:
    """Returns the entity tag of one page.

    It varies with closure, so that no 304 hides the end (PROTOCOL 10.1), and with having reached the tail, since those
    responses differ in `Stream-Up-To-Date`.
    """
    mark = b":c" if closed else b":t" if at_tail else b""
    return b'"%016d:%d:%d%s"' % (state.incarnation, start, end, mark)


def etag_matches(if_none_match: bytes, tag: bytes) -> bool:
    """Whether an If-None-Match value covers `tag`, compared weakly (RFC 9110, 13.1.2)."""
    if if_none_match.strip() == b"*":
        return True
    candidates = (part.strip().removeprefix(b"W/") for part in if_none_match.split(b","))
    return tag in candidates


def compressed_etag(tag: bytes) -> bytes:
    """Returns the tag of a page's gzip representation: other bytes need another strong tag (RFC 9110, 8.8.3)."""
    return tag[:-1] + b':gz"'


def page_cache_control(state: StreamState, now: int, empty: bool, closed: bool) -> bytes:
    """Returns how long a catch-up page may be kept.

    Bytes at an offset never change, so a page may be kept; an empty answer at an open tail is about this moment only,
    and nothing may outlive its stream.
    """
    if empty and not closed:
        return REVALIDATE
    if not state.mortal:
        return _CACHEABLE
    deadline = state.deadline_if_used(now)
    if deadline is None:
        return _CACHEABLE
    left = max(0, (deadline - now) // MICROSECONDS)
    if left >= _MAX_AGE + _STALE_WHILE_REVALIDATE:
        return _CACHEABLE
    return b"public, max-age=%d" % min(_MAX_AGE, left)
