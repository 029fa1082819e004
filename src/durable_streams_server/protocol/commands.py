"""Requests as frozen values, parsed from what HTTP carried. Whatever can be refused by its form alone is refused here.

A body is turned into wire bytes before the decision, because that needs no state: the request's own content type says how,
and must match the stream's. A body that is not valid JSON becomes a `Body` with a problem, raised by the decision in its
place of precedence: closed, content type, body, producer, sequence (PROTOCOL 5.2).
"""

import re
from array import array
from collections.abc import Mapping
from typing import Final

import msgspec

from ..errors import BadRequest, StreamError, TooLarge
from . import offsets
from .codings import refuse_coded
from .cursor import has_next
from .json import mode as json_mode
from .json.split import Splitter, split_all
from .lifetime import Lifetime, parse_lifetime
from .limits import MARK_SPACING, MAX_TOKEN_BYTES
from .media import Kind, MediaType, parse_media_type
from .names import (
    CONTENT_ENCODING,
    CONTENT_TYPE,
    IF_MATCH,
    IF_NONE_MATCH,
    LAST_EVENT_ID,
    LIVE_LONG_POLL,
    LIVE_SSE,
    OCTET_STREAM,
    PRODUCER_EPOCH,
    PRODUCER_ID,
    PRODUCER_SEQ,
    QUERY_CURSOR,
    QUERY_LIVE,
    QUERY_OFFSET,
    STREAM_CLOSED,
    STREAM_EXPECTED_OFFSET,
    STREAM_EXPIRES_AT,
    STREAM_FORK_OFFSET,
    STREAM_FORK_SUB_OFFSET,
    STREAM_SEQ,
    STREAM_TTL,
)
from .offsets import Offset, Sentinel
from .preconditions import Conditions, parse_conditions
from .producers import Stamp, parse_stamp
from .subscriptions.commands import SubscriptionCommand

Headers = Mapping[bytes, bytes]

_SUB_OFFSET: Final = re.compile(r"0|[1-9][0-9]{0,15}")
_CURSOR: Final = re.compile(r"[\x21-\x7e]*")


class Problem(msgspec.Struct, frozen=True, gc=False):
    """Why a body cannot be one.

    No exception: that would hold the frames it was raised in, which hold the body, and nothing collects what is not tracked.
    """

    kind: type[StreamError]
    message: str
    code: str

    def refusal(self) -> StreamError:
        """Returns the error to raise."""
        return self.kind(self.message, self.code)


class Body(msgspec.Struct, frozen=True, gc=False):
    """A request body as wire bytes, or why it cannot be one.

    Attributes:
        wire: the wire bytes.
        problem: why there are none.
        marks: where large JSON may be cut, counted from the wire's beginning; None if that is not known yet.
        splitting: what must first be done, if the body is large JSON. The decision wants a body without it.
        is_json: whether these are JSON's wire bytes although the request named no type.
    """

    wire: bytes
    problem: Problem | None = None
    marks: "array[int] | None" = None
    splitting: "Splitting | None" = None
    is_json: bool = False


class Splitting:
    """The work that turns a large JSON body into wire bytes, in steps of about a millisecond.

    Attributes:
        body: the finished body, once `step` has returned False.
    """

    __slots__ = ("_is_json", "_splitter", "body")

    def __init__(self, body: bytes, *, allow_empty: bool, is_json: bool = False) -> None:
        self._splitter = Splitter(body, allow_empty=allow_empty)
        self._is_json = is_json
        self.body = NO_BODY

    def step(self) -> bool:
        """Does some of the work, and returns whether there is more."""
        splitter = self._splitter
        try:
            if splitter.step():
                return True
        except (BadRequest, TooLarge) as error:
            self.body = Body(b"", _problem(error), is_json=self._is_json)
        else:
            self.body = Body(splitter.wire, None, splitter.marks, None, self._is_json)
        return False

    def release(self) -> None:
        """Ends the work and lets the body go."""
        self._splitter.release()


NO_BODY: Final = Body(b"")


class Fork(msgspec.Struct, frozen=True):
    """What a fork request names (PROTOCOL 4.2).

    Attributes:
        source: the source's path, decoded.
        offset: the fork offset, or None for the source's tail.
        sub_offset: the sub-offset, or None when the request had none.
        position: where that is in bytes, once resolved against the source of `incarnation`.
        incarnation: the source's incarnation that was resolved against.
        problem: why it could not be resolved, raised by the decision unless the fork is there already.
    """

    source: str
    offset: Offset | None
    sub_offset: int | None
    position: int | None = None
    incarnation: int = 0
    problem: StreamError | None = None


class Create(msgspec.Struct, frozen=True):
    """PUT (PROTOCOL 5.1). `media` is None when the request named no type."""

    path: str
    media: MediaType | None
    lifetime: Lifetime
    body: Body
    closes: bool = False
    fork: Fork | None = None
    conditions: Conditions | None = None


class Append(msgspec.Struct, frozen=True, gc=False):
    """POST (PROTOCOL 5.2, 5.3). Without a body it only closes."""

    path: str
    media: MediaType | None
    body: Body
    has_body: bool
    closes: bool = False
    stamp: Stamp | None = None
    seq: bytes | None = None
    expected: Offset | None = None
    conditions: Conditions | None = None


class Delete(msgspec.Struct, frozen=True):
    """DELETE (PROTOCOL 5.4)."""

    path: str
    conditions: Conditions | None = None


class Expire(msgspec.Struct, frozen=True):
    """The sweep's own command: end this incarnation if its time has run out."""

    path: str
    incarnation: int


StreamCommand = Create | Append | Delete | Expire
Command = StreamCommand | SubscriptionCommand


class Read(msgspec.Struct, frozen=True):
    """GET (PROTOCOL 5.6 to 5.8).

    Attributes:
        path: the stream's, decoded.
        offset: where to begin.
        live: None for catch-up.
        cursor: the client's cursor, if it sent one.
        resumes: whether a browser's EventSource names in its `Last-Event-ID` the offset that it has reached.
    """

    path: str
    offset: Offset | Sentinel
    live: str | None = None
    cursor: str | None = None
    resumes: bool = False


def encode_body(kind: Kind, body: bytes, *, allow_empty: bool) -> Body:
    """Turns request bytes into wire bytes for a stream of `kind`."""
    if kind is not Kind.JSON or not body:
        return Body(body)
    try:
        if json_mode.is_large(body):
            splitter = split_all(body, allow_empty=allow_empty)
            return Body(splitter.wire, None, splitter.marks)
        return Body(json_mode.to_wire(body, allow_empty=allow_empty))
    except (BadRequest, TooLarge) as error:
        return Body(b"", _problem(error))


def begin_body(kind: Kind, body: bytes, *, allow_empty: bool) -> Body:
    """As `encode_body`, but of a JSON body that takes more than a few milliseconds, the work is still to be done."""
    if kind is Kind.JSON and json_mode.needs_turns(body):
        return Body(b"", splitting=Splitting(body, allow_empty=allow_empty))
    return encode_body(kind, body, allow_empty=allow_empty)


def _problem(error: StreamError) -> Problem:
    return Problem(type(error), error.message, error.code)


def known_marks(command: Command | None, data: bytes) -> "array[int] | None":
    """Returns the marks of a command's body, if they are known and its wire bytes are `data`."""
    if not isinstance(command, Append | Create) or command.body.wire is not data:
        return None
    return command.body.marks


def check_seq(seq: bytes | None) -> bytes | None:
    """Returns a Stream-Seq unchanged, if it can be one, else raises BadRequest with INVALID_SEQ."""
    if seq is not None and not 0 < len(seq) <= MAX_TOKEN_BYTES:
        raise BadRequest(f"Stream-Seq must have 1 to {MAX_TOKEN_BYTES} bytes", "INVALID_SEQ")
    return seq


def parse_create(path: str, headers: Headers, body: bytes, source: str | None) -> Create:
    """Parses a PUT. Its body may have to be split first. `source` is the decoded path of Stream-Forked-From, or None without that header."""
    if body:
        refuse_coded(headers)
    media = _media(headers)
    return Create(
        path=path,
        media=media,
        lifetime=parse_lifetime(_text(headers, STREAM_TTL), _text(headers, STREAM_EXPIRES_AT)),
        body=begin_body(media.kind, body, allow_empty=True) if media else Body(body),
        closes=_closes(headers),
        fork=_parse_fork(headers, source),
        conditions=parse_conditions(headers),
    )


def parse_append(path: str, headers: Headers, body: bytes) -> Append:
    """Parses a POST. Its body may have to be split first.

    Raises:
        BadRequest: EMPTY_BODY, MISSING_CONTENT_TYPE, or what its headers' own rules say.
        UnsupportedMedia: the body has a content coding.
    """
    closes = STREAM_CLOSED in headers and _closes(headers)
    seq = check_seq(headers[STREAM_SEQ]) if STREAM_SEQ in headers else None
    stamp = None
    if PRODUCER_ID in headers or PRODUCER_EPOCH in headers or PRODUCER_SEQ in headers:
        stamp = parse_stamp(
            headers.get(PRODUCER_ID), headers.get(PRODUCER_EPOCH), headers.get(PRODUCER_SEQ)
        )
    expected_offset = None
    if STREAM_EXPECTED_OFFSET in headers:
        text = headers[STREAM_EXPECTED_OFFSET].decode("latin-1")
        expected_offset = offsets.parse(text, "expected offset")
    conditions = None
    if IF_MATCH in headers or IF_NONE_MATCH in headers:
        conditions = parse_conditions(headers)
    if not body:
        if not closes:
            raise BadRequest("an append needs a body", "EMPTY_BODY")
        return Append(path, None, NO_BODY, False, True, stamp, seq, expected_offset, conditions)
    if CONTENT_ENCODING in headers:
        refuse_coded(headers)
    media = _media(headers)
    if media is None:
        raise BadRequest("an append needs a Content-Type", "MISSING_CONTENT_TYPE")
    wire = _wire(media, body)
    return Append(path, media, wire, True, closes, stamp, seq, expected_offset, conditions)


def append_again(earlier: Append, body: bytes) -> Append:
    """Returns what `parse_append` makes of the headers of an earlier append and another body, which is not empty."""
    media = earlier.media
    assert media is not None
    return Append(
        earlier.path,
        media,
        _wire(media, body),
        True,
        earlier.closes,
        earlier.stamp,
        earlier.seq,
        earlier.expected,
        earlier.conditions,
    )


def _wire(media: MediaType, body: bytes) -> Body:
    if media.kind is not Kind.JSON:
        return Body(body)
    # One call less for a small one.
    begin = encode_body if len(body) < MARK_SPACING else begin_body
    return begin(media.kind, body, allow_empty=False)


def parse_read(path: str, query: Mapping[str, list[str]], headers: Headers) -> Read:
    """Parses a GET's query. Parameters that the protocol does not name are ignored.

    Raises:
        BadRequest: INVALID_OFFSET, MISSING_OFFSET, INVALID_LIVE, INVALID_CURSOR.
    """
    live = _single(query, QUERY_LIVE, "INVALID_LIVE")
    if live not in (None, LIVE_LONG_POLL, LIVE_SSE):
        raise BadRequest("live must be long-poll or sse", "INVALID_LIVE")
    text = _single(query, QUERY_OFFSET, "INVALID_OFFSET")
    resumed = _text(headers, LAST_EVENT_ID) if live == LIVE_SSE else None
    if resumed:
        text = resumed  # a browser's EventSource repeats its first URL when it reconnects
    if text is None:
        if live is not None:
            raise BadRequest("a live read needs an offset", "MISSING_OFFSET")
        text = Sentinel.START.value
    cursor = _single(query, QUERY_CURSOR, "INVALID_CURSOR")
    if cursor is not None and not (len(cursor) <= MAX_TOKEN_BYTES and _CURSOR.fullmatch(cursor)):
        raise BadRequest("the cursor is malformed", "INVALID_CURSOR")
    if cursor is not None and not has_next(cursor):
        raise BadRequest("the cursor is too high to be exceeded", "INVALID_CURSOR")
    offset = offsets.parse_read(text)
    return Read(path, offset, live, cursor, bool(resumed) and isinstance(offset, Offset))


def _parse_fork(headers: Headers, source: str | None) -> Fork | None:
    offset = _text(headers, STREAM_FORK_OFFSET)
    sub_offset = _text(headers, STREAM_FORK_SUB_OFFSET)
    if source is None:
        if offset is not None or sub_offset is not None:
            raise BadRequest("a fork offset needs Stream-Forked-From", "INVALID_FORK")
        return None
    if sub_offset is not None and not _SUB_OFFSET.fullmatch(sub_offset):
        raise BadRequest(
            "Stream-Fork-Sub-Offset must be a whole number from 0", "INVALID_SUB_OFFSET"
        )
    refined = None if sub_offset is None else int(sub_offset)
    if refined and offset is None:
        raise BadRequest("a sub-offset needs Stream-Fork-Offset", "INVALID_SUB_OFFSET")
    anchor: Offset | None = None
    if offset == Sentinel.START.value:
        anchor = offsets.ZERO
    elif offset is not None and offset != Sentinel.NOW.value:
        anchor = offsets.parse(offset, "fork offset")
    return Fork(source, anchor, refined)


def _media(headers: Headers) -> MediaType | None:
    value = headers.get(CONTENT_TYPE)
    return parse_media_type(value.decode("latin-1")) if value else None


def _closes(headers: Headers) -> bool:
    # PROTOCOL 4.1: any value but true, in any case, is as if the header were absent.
    value = headers.get(STREAM_CLOSED)
    return value is not None and value.lower() == b"true"


def _text(headers: Headers, name: bytes) -> str | None:
    value = headers.get(name)
    return None if value is None else value.decode("latin-1")


def _single(query: Mapping[str, list[str]], name: str, code: str) -> str | None:
    values = query.get(name)
    if values is None:
        return None
    if len(values) > 1:
        raise BadRequest(f"{name} is given more than once", code)
    return values[0]


__all__ = [
    "NO_BODY",
    "OCTET_STREAM",
    "Append",
    "Body",
    "Command",
    "Create",
    "Delete",
    "Expire",
    "Fork",
    "Headers",
    "Read",
    "StreamCommand",
    "check_seq",
    "encode_body",
    "parse_append",
    "parse_create",
    "parse_read",
]
