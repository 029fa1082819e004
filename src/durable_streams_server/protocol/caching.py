"""ETag and Cache-Control (PROTOCOL 10)."""

from collections.abc import Mapping
from typing import Final

from .names import AUTHORIZATION, COOKIE
from .offsets import Offset, Sentinel
from .state import StreamState
from .units import SECOND

NO_STORE: Final = b"no-store"
REVALIDATE: Final = b"no-cache"
EVENTS: Final = b"no-cache, no-transform"  # a proxy that compresses would hold events back
#: Seconds that caches keep a page that can never change. A deleted stream's pages, and those that a restored backup has not, stay
#: in caches for so long; a day later an unchanged page costs its readers a 304.
SETTLED_MAX_AGE: Final = 86_400
_NO_HEADERS: Final[Mapping[bytes, bytes]] = {}


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


def is_settled(state: StreamState, offset: Offset | Sentinel, at_tail: bool, closed: bool) -> bool:
    """Whether every later read of `offset` at this path gets the same page, or none.

    A page at the tail of an open stream can grow. Any other cannot, but a later stream at the path can get the same URL, unless
    the URL names this incarnation. A fork's inherited offsets name its source's: another fork at the path may share them, and
    not the bytes behind.
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
    """Returns how long caches may keep a page, which is no longer than its stream lives.

    Args:
        state: the stream.
        now: microseconds of steady time.
        settled: whether the page can never change, from `is_settled`. Any other is revalidated with its entity tag.
        headers: the request's. What was asked for with credentials is for no shared cache (PROTOCOL 10.1, 12.2).
        shared_age: seconds that shared caches may keep a page that can change.
    """
    if not (settled or shared_age):
        return REVALIDATE
    has_credentials = AUTHORIZATION in headers or COOKIE in headers
    if settled:
        age = _within_life(state, now, SETTLED_MAX_AGE)
        return b"%b, max-age=%d" % (b"private" if has_credentials else b"public", age)
    if has_credentials:
        return REVALIDATE
    age = _within_life(state, now, shared_age)
    return b"public, max-age=0, s-maxage=%d, must-revalidate" % age


def _within_life(state: StreamState, now: int, age: int) -> int:
    """Returns so many seconds, or as many as the stream has left if nobody but this reader uses it."""
    deadline = state.deadline_if_used(now) if state.mortal else None
    return age if deadline is None else max(0, min(age, (deadline - now) // SECOND))
