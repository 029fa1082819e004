"""`If-Match` and `If-None-Match` on POST, PUT and DELETE (RFC 9110, 13): what a write must find, or must not find.

A stream's tag is that of a page with all of it, which HEAD tells. The tag of any page that ends at the tail names the same state,
so a reader at the tail needs no HEAD. Every append and the closure change it, and no two streams at one path share it.

The decision checks conditions, on the newest state and in the same step as the write: of two writers with one tag, one fails.
They come after every other refusal (RFC 9110, 13.2.1), and a change that was made already is confirmed without them (13.1.1).
"""

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from ..errors import Header, PreconditionFailed
from . import caching
from .names import IF_MATCH, IF_NONE_MATCH, STREAM_CLOSED, STREAM_NEXT_OFFSET
from .state import StreamState

_ANY: Final = (b"*",)
_TAG: Final = re.compile(rb'(W/)?("[\x21\x23-\x7e\x80-\xff]*")')  # RFC 9110, 8.8.3
_PAGE: Final = re.compile(rb'"([0-9]{16}):(?:0|[1-9][0-9]*):(.*?)(?::gz)?"')

Tags = tuple[bytes, ...]


class Conditions(msgspec.Struct, frozen=True, gc=False):
    """What a write must find.

    Attributes:
        match: tags of which one must be the stream's, `*` for any; None without `If-Match`. Weak ones are left out.
        none_match: tags of which none may be the stream's, `*` for any; None without `If-None-Match`.
    """

    match: Tags | None
    none_match: Tags | None


def parse_conditions(headers: Mapping[bytes, bytes]) -> Conditions | None:
    """Returns the conditions in a request's headers, or None if there are none. What is no tag matches nothing."""
    match, none_match = headers.get(IF_MATCH), headers.get(IF_NONE_MATCH)
    if match is None and none_match is None:
        return None
    return Conditions(_tags(match, weak=False), _tags(none_match, weak=True))


def tag_of(state: StreamState) -> bytes:
    """Returns the tag of a stream's newest state."""
    return caching.etag(state, 0, state.tail, True, state.closed)


def check_conditions(conditions: Conditions, state: StreamState | None) -> None:
    """Checks conditions against the newest state of a stream, or against None where there is no stream.

    Raises:
        PreconditionFailed: one does not hold; it carries the stream's tag and tail.
    """
    if conditions.match is not None and not _includes(conditions.match, state):
        raise PreconditionFailed("the stream is not as If-Match says", headers=_standing(state))
    if conditions.none_match is not None and _includes(conditions.none_match, state):
        raise PreconditionFailed("the stream is as If-None-Match says", headers=_standing(state))


def _tags(value: bytes | None, *, weak: bool) -> Tags | None:
    """Returns the tags of a list, of which weak ones count if `weak`."""
    if value is None:
        return None
    if value.strip(b" \t") == b"*":
        return _ANY
    return tuple(tag for mark, tag in _TAG.findall(value) if weak or not mark)


def _includes(tags: Tags, state: StreamState | None) -> bool:
    """Whether tags include the state's. Compressed pages have tags of their own, which name the same state."""
    if state is None:
        return False
    if tags == _ANY:
        return True
    incarnation = b"%016d" % state.incarnation
    rest = b"%d:%b" % (state.tail, b"c" if state.closed else b"t")
    return any(
        page is not None and page.groups() == (incarnation, rest)
        for page in map(_PAGE.fullmatch, tags)
    )


def _standing(state: StreamState | None) -> list[Header]:
    if state is None:
        return []
    headers = [(b"etag", tag_of(state)), (STREAM_NEXT_OFFSET, state.name(state.tail).encode())]
    if state.closed:
        headers.append((STREAM_CLOSED, b"true"))
    return headers
