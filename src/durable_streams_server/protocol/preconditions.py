"""Parses and checks `If-Match` and `If-None-Match` on POST, PUT and DELETE (RFC 9110, 13).

The tag of a stream is the tag of a page that contains the whole stream; HEAD returns it. The tag of any page that ends at the tail
names the same state, so a reader at the tail needs no HEAD. Every append and a close change the tag, and no two streams at one path
share a tag.

A decision checks the conditions on the newest state, in the same step as the write, so of two writers with one tag, one fails. The
conditions are checked after every other reason to refuse the write (RFC 9110, 13.2.1). A repeated write that has already succeeded
is confirmed without checking them (RFC 9110, 13.1.1).
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
    """The conditions of one write.

    Attributes:
        match: the strong tags of `If-Match`, one of which the stream must have, or None without that header. `*` stands for any
            existing stream.
        none_match: the tags of `If-None-Match`, none of which the stream may have, or None without that header. `*` stands for
            any existing stream.
    """

    match: Tags | None
    none_match: Tags | None


def parse_conditions(headers: Mapping[bytes, bytes]) -> Conditions | None:
    """Returns the conditions in the headers of a request, or None if there are none. Malformed tags match nothing."""
    match, none_match = headers.get(IF_MATCH), headers.get(IF_NONE_MATCH)
    if match is None and none_match is None:
        return None
    return Conditions(_tags(match, weak=False), _tags(none_match, weak=True))


def tag_of(state: StreamState) -> bytes:
    """Returns the entity tag of a stream's newest state."""
    return caching.etag(state, 0, state.tail, True, state.closed)


def check_conditions(conditions: Conditions, state: StreamState | None) -> None:
    """Checks conditions against the newest state of a stream, or against None if there is no stream.

    Raises:
        PreconditionFailed: a condition is false. The error has headers with the stream's tag and tail.
    """
    if conditions.match is not None and not _includes(conditions.match, state):
        raise PreconditionFailed(
            "the stream is not as If-Match says", headers=_state_headers(state)
        )
    if conditions.none_match is not None and _includes(conditions.none_match, state):
        raise PreconditionFailed(
            "the stream is as If-None-Match says", headers=_state_headers(state)
        )


def _tags(value: bytes | None, *, weak: bool) -> Tags | None:
    """Returns the tags of a header, without the weak ones unless `weak` is True."""
    if value is None:
        return None
    if value.strip(b" \t") == b"*":
        return _ANY
    return tuple(tag for mark, tag in _TAG.findall(value) if weak or not mark)


def _includes(tags: Tags, state: StreamState | None) -> bool:
    """Returns whether tags include the tag of a state. The tag of a compressed page names the same state."""
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


def _state_headers(state: StreamState | None) -> list[Header]:
    """Returns the headers that tell a client the present tag, tail and closure of a stream."""
    if state is None:
        return []
    headers = [(b"etag", tag_of(state)), (STREAM_NEXT_OFFSET, state.name(state.tail).encode())]
    if state.closed:
        headers.append((STREAM_CLOSED, b"true"))
    return headers
