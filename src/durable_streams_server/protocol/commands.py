"""Parses HTTP requests into commands, which are frozen values. Malformed requests are refused here.

A body is turned into wire bytes before the decision. This needs no state, because the content type of the request determines the
wire form, and the decision checks that it matches the content type of the stream. A body that is not valid JSON becomes a `Body`
with a problem. The decision raises the problem in the order of PROTOCOL 5.2: closed, content type, body, producer, sequence.
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
    STREAM_PUBLIC,
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
    """The reason why a body cannot be turned into wire bytes.

    It is not an exception, because an exception refers to the stack frames that raised it, and these refer to the body. The garbage
    collector does not track a `Body`, so it would never free such a reference cycle.
    """

    kind: type[StreamError]
    message: str
    code: str

    def refusal(self) -> StreamError:
        """Returns this problem as an error to raise."""
        return self.kind(self.message, self.code)


class Body(msgspec.Struct, frozen=True, gc=False):
    """A request body as wire bytes, or the reason why it has none.

    Attributes:
        wire: the wire bytes.
        problem: the reason why there are no wire bytes, or None.
        marks: the positions in `wire` at which a page of large JSON may end, or None if they are not known yet.
        splitting: the unfinished work that produces the wire bytes of large JSON, or None. A decision needs a finished body.
        is_json: whether `wire` is in JSON's wire form although the request named no content type.
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
        """Does about a millisecond of work, and returns whether work is left."""
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
        """Ends the work, and drops the reference to the request body."""
        self._splitter.release()


NO_BODY: Final = Body(b"")


class Fork(msgspec.Struct, frozen=True):
    """The source and the fork point that a fork request names (PROTOCOL 4.2).

    Attributes:
        source: the decoded path of the source.
        offset: the fork offset, or None for the source's tail.
        sub_offset: the sub-offset, or None if the request had none.
        position: the fork point as a byte position, or None before it is resolved against the source.
        incarnation: the incarnation of the source that the fork point was resolved against.
        problem: the error of resolving the fork point, or None. The decision raises the error unless the fork already exists.
    """

    source: str
    offset: Offset | None
    sub_offset: int | None
    position: int | None = None
    incarnation: int = 0
    problem: StreamError | None = None


class Create(msgspec.Struct, frozen=True):
    """A PUT, which creates a stream or a fork (PROTOCOL 5.1).

    Attributes:
        media: the content type, or None if the request named none.
        public: whether anyone may read the stream without a token. A fork does not inherit this from its source.
    """

    path: str
    media: MediaType | None
    lifetime: Lifetime
    body: Body
    closes: bool = False
    fork: Fork | None = None
    conditions: Conditions | None = None
    public: bool = False


class Append(msgspec.Struct, frozen=True, gc=False):
    """A POST, which appends, closes, or does both (PROTOCOL 5.2, 5.3). Without a body it only closes."""

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
    """A DELETE of a stream (PROTOCOL 5.4)."""

    path: str
    conditions: Conditions | None = None


class Expire(msgspec.Struct, frozen=True):
    """The server's own command to end an incarnation whose lifetime has run out."""

    path: str
    incarnation: int


StreamCommand = Create | Append | Delete | Expire
Command = StreamCommand | SubscriptionCommand


class Read(msgspec.Struct, frozen=True):
    """A GET of a stream (PROTOCOL 5.6 to 5.8).

    Attributes:
        path: the decoded path of the stream.
        offset: the offset from which to read.
        live: `long-poll` or `sse` for a live read, or None for a catch-up read.
        cursor: the client's cursor, or None if it sent none.
        resumes: whether `offset` comes from the `Last-Event-ID` of a browser's EventSource that has reconnected.
    """

    path: str
    offset: Offset | Sentinel
    live: str | None = None
    cursor: str | None = None
    resumes: bool = False


def encode_body(kind: Kind, body: bytes, *, allow_empty: bool) -> Body:
    """Returns a request body as wire bytes for a stream of `kind`. The result has no `splitting`.

    Args:
        kind: the kind of the stream.
        body: the request body.
        allow_empty: whether an empty JSON array is allowed.
    """
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
    """Returns the body of a request for a stream of `kind`. If it is large JSON, it is not split yet, and has a `splitting`.

    Args:
        kind: the kind of the stream.
        body: the request body.
        allow_empty: whether an empty JSON array is allowed.
    """
    if kind is Kind.JSON and json_mode.needs_turns(body):
        return Body(b"", splitting=Splitting(body, allow_empty=allow_empty))
    return encode_body(kind, body, allow_empty=allow_empty)


def _problem(error: StreamError) -> Problem:
    return Problem(type(error), error.message, error.code)


def known_marks(command: Command | None, data: bytes) -> "array[int] | None":
    """Returns the marks of a command's body, or None if the marks are not known or `data` is not the body's wire bytes."""
    if not isinstance(command, Append | Create) or command.body.wire is not data:
        return None
    return command.body.marks


def check_seq(seq: bytes | None) -> bytes | None:
    """Returns a Stream-Seq unchanged, after checking its length.

    Raises:
        BadRequest: INVALID_SEQ.
    """
    if seq is not None and not 0 < len(seq) <= MAX_TOKEN_BYTES:
        raise BadRequest(f"Stream-Seq must have 1 to {MAX_TOKEN_BYTES} bytes", "INVALID_SEQ")
    return seq


def parse_create(path: str, headers: Headers, body: bytes, source: str | None) -> Create:
    """Parses a PUT. If the body is large JSON, it is not split yet, and the command's body has a `splitting`.

    Args:
        path: the decoded path of the stream.
        headers: the headers of the request.
        body: the request body.
        source: the decoded path in Stream-Forked-From, or None if the request has no such header.

    Raises:
        BadRequest: a header is malformed.
        UnsupportedMedia: the body has a content coding.
    """
    if body:
        refuse_coded(headers)
    media = _media(headers)
    return Create(
        path=path,
        media=media,
        lifetime=parse_lifetime(_text(headers, STREAM_TTL), _text(headers, STREAM_EXPIRES_AT)),
        body=begin_body(media.kind, body, allow_empty=True) if media else Body(body),
        closes=asks_to_close(headers),
        fork=_parse_fork(headers, source),
        conditions=parse_conditions(headers),
        public=_is_public(headers),
    )


def parse_append(path: str, headers: Headers, body: bytes) -> Append:
    """Parses a POST. If the body is large JSON, it is not split yet, and the command's body has a `splitting`.

    Raises:
        BadRequest: EMPTY_BODY, MISSING_CONTENT_TYPE, or the code of a malformed header.
        UnsupportedMedia: the body has a content coding.
    """
    closes = STREAM_CLOSED in headers and asks_to_close(headers)
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
    """Returns an append with another body and the headers of an earlier append. Neither body may be empty."""
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
    # A direct call of `encode_body` saves a call for each small body.
    begin = encode_body if len(body) < MARK_SPACING else begin_body
    return begin(media.kind, body, allow_empty=False)


def parse_read(path: str, query: Mapping[str, list[str]], headers: Headers) -> Read:
    """Parses a GET. Query parameters that the protocol does not name are ignored.

    Raises:
        BadRequest: INVALID_OFFSET, MISSING_OFFSET, INVALID_LIVE, INVALID_CURSOR.
    """
    live = _single(query, QUERY_LIVE, "INVALID_LIVE")
    if live not in (None, LIVE_LONG_POLL, LIVE_SSE):
        raise BadRequest("live must be long-poll or sse", "INVALID_LIVE")
    text = _single(query, QUERY_OFFSET, "INVALID_OFFSET")
    resumed = _text(headers, LAST_EVENT_ID) if live == LIVE_SSE else None
    if resumed:
        # An EventSource reconnects with its original URL, so the offset in the URL is out of date.
        text = resumed
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


def asks_to_close(headers: Headers) -> bool:
    """Returns whether a request closes the stream that it creates or appends to."""
    # PROTOCOL 4.1: any value other than true, in upper or lower case, counts as an absent header.
    value = headers.get(STREAM_CLOSED)
    return value is not None and value.lower() == b"true"


def _is_public(headers: Headers) -> bool:
    value = headers.get(STREAM_PUBLIC)
    if value not in (None, b"true"):
        # A client that means "false" or misspells "true" must learn that the value does not count.
        raise BadRequest("Stream-Public must be true, or absent", "INVALID_PUBLIC")
    return value is not None


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
