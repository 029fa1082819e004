"""Renders outcomes and errors as responses: status, headers, body. `http/` adds the headers common to all responses."""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from ..errors import Header, StreamError
from . import caching
from .decisions.outcomes import AppendOutcome, CreateOutcome
from .media import Kind
from .names import (
    CONTENT_TYPE,
    PRODUCER_EPOCH,
    PRODUCER_SEQ,
    STREAM_CLOSED,
    STREAM_CURSOR,
    STREAM_EXPIRES_AT,
    STREAM_NEXT_OFFSET,
    STREAM_PUBLIC,
    STREAM_SSE_DATA_ENCODING,
    STREAM_TTL,
    STREAM_UP_TO_DATE,
)
from .offsets import Offset, Sentinel
from .page import Page
from .sse import CONTENT_TYPE as EVENT_STREAM
from .sse import needs_base64
from .state import StreamState

_NO_STORE: Final[Header] = (b"cache-control", caching.NO_STORE)
_CLOSED: Final[Header] = (STREAM_CLOSED, b"true")
_PUBLIC: Final[Header] = (STREAM_PUBLIC, b"true")
_UP_TO_DATE: Final[Header] = (STREAM_UP_TO_DATE, b"true")
_ATTACHMENT: Final[Header] = (b"content-disposition", b"attachment")
_NO_HEADERS: Final[Mapping[bytes, bytes]] = {}


class Common:
    """Headers that a server adds to all its responses.

    Attributes:
        pairs: the headers as pairs of name and value.
        lines: the headers as lines of HTTP/1.1.

    Raises:
        ValueError: a header comes twice.
    """

    __slots__ = ("lines", "pairs")

    def __init__(self, pairs: Sequence[Header]) -> None:
        if len(dict(pairs)) != len(pairs):
            raise ValueError("a header comes twice")
        self.pairs = tuple(pairs)
        self.lines = b"".join(b"%b: %b\r\n" % pair for pair in pairs)


_NOTHING_COMMON: Final = Common(())


class Response(msgspec.Struct):
    """A complete response.

    Attributes:
        status: the HTTP status code.
        headers: the headers of this response, with names in lower case.
        body: the body, or the JSON wire bytes of the body if `array` is True.
        array: whether to send the values in `body` as a JSON array (PROTOCOL 9.1.5).
        vary_encoding: whether the body may be sent compressed, so that the response varies with Accept-Encoding.
        common: the headers that all responses of the server have.
        holder: an object that counts the memory of large pages, or None. Keep a reference to it until the body is sent.
        is_public: whether anyone may read the response without a token.
        is_last: whether the connection ends after this response, so that the client's next request may reach another server.
    """

    status: int
    headers: list[Header]
    body: bytes = b""
    vary_encoding: bool = False
    common: Common = _NOTHING_COMMON
    array: bool = False
    holder: object = None
    is_public: bool = False
    is_last: bool = False

    @property
    def size(self) -> int:
        """The number of bytes of the body as it is sent."""
        return len(self.body) + 1 if self.array else len(self.body)

    @property
    def parts(self) -> tuple[bytes | memoryview, ...]:
        """The body as it is sent, in parts, without copying it."""
        return (b"[", memoryview(self.body)[:-1], b"]") if self.array else (self.body,)

    @property
    def whole(self) -> bytes:
        """The body as it is sent, as one bytes object."""
        return b"".join(self.parts) if self.array else self.body

    @property
    def all_headers(self) -> list[Header]:
        """All headers, including the common ones."""
        return [*self.headers, *self.common.pairs]


def created(outcome: CreateOutcome, location: bytes) -> Response:
    """Returns the response to a PUT: 201 with the URL of the new stream, or 200 if it already existed (PROTOCOL 5.1)."""
    headers = [
        (CONTENT_TYPE, outcome.media.text.encode("latin-1")),
        (STREAM_NEXT_OFFSET, outcome.next_offset.encode()),
        _NO_STORE,
    ]
    if outcome.closed:
        headers.append(_CLOSED)
    if outcome.public:
        headers.append(_PUBLIC)
    if outcome.created:
        headers.append((b"location", location))
    return Response(201 if outcome.created else 200, headers)


def appended(outcome: AppendOutcome) -> Response:
    """Returns the response to a POST: 204, or 200 for new data from a producer (PROTOCOL 5.2, 5.2.1)."""
    headers = [(STREAM_NEXT_OFFSET, outcome.next_offset.encode()), _NO_STORE]
    producer = outcome.producer
    if producer is not None:
        headers.append((PRODUCER_EPOCH, b"%d" % producer.epoch))
        headers.append((PRODUCER_SEQ, b"%d" % producer.seq))
    if outcome.closed:
        headers.append(_CLOSED)
    return Response(200 if producer is not None and outcome.wrote else 204, headers)


def deleted() -> Response:
    """Returns the response to a DELETE, 204 (PROTOCOL 5.4)."""
    return Response(204, [_NO_STORE])


def head(state: StreamState, if_none_match: bytes | None = None) -> Response:
    """Returns the response to a HEAD: the metadata of a stream, or 304 if the client's entity tag matches (PROTOCOL 5.5).

    The entity tag is that of a page with the whole stream.

    Args:
        state: the state of the stream.
        if_none_match: the If-None-Match header of the request, or None.
    """
    tag = caching.etag(state, 0, state.visible_tail, True, state.visible_closed)
    headers = [
        (CONTENT_TYPE, state.media.text.encode("latin-1")),
        (STREAM_NEXT_OFFSET, state.name(state.visible_tail).encode()),
        (b"etag", tag),
        _NO_STORE,
    ]
    if state.lifetime.ttl is not None:
        headers.append((STREAM_TTL, b"%d" % state.lifetime.ttl))
    if state.lifetime.expires_text is not None:
        headers.append((STREAM_EXPIRES_AT, state.lifetime.expires_text.encode("latin-1")))
    if state.visible_closed:
        headers.append(_CLOSED)
    if state.public:
        headers.append(_PUBLIC)
    has_it = if_none_match is not None and caching.etag_matches(if_none_match, tag)
    return Response(304 if has_it else 200, headers, is_public=state.public)


def page(
    read: Page,
    now: int,
    if_none_match: bytes | None = None,
    cursor: str | None = None,
    *,
    offset: Offset | Sentinel = Sentinel.START,
    headers: Mapping[bytes, bytes] = _NO_HEADERS,
    shared_age: int = 0,
) -> Response:
    """Returns the response to a GET: one page, or 304 if the client's entity tag matches (PROTOCOL 5.6, 5.7, 10.1).

    Args:
        read: the page.
        now: microseconds of steady time.
        if_none_match: the If-None-Match header of the request, or None.
        cursor: the cursor to send with a live read, or None.
        offset: the offset that the client asked for.
        headers: the headers of the request, which decide whether a shared cache may keep the page.
        shared_age: the seconds for which shared caches may keep a page that can change.
    """
    public = read.state.public
    tag = caching.etag(read.state, read.start, read.end, read.at_tail, read.closed)
    if offset is Sentinel.NOW:
        cache = caching.NO_STORE
    else:
        cache = caching.page_cache_control(
            read.state,
            now,
            settled=caching.is_settled(read.state, offset, read.at_tail, read.closed),
            headers=headers,
            shared_age=shared_age,
        )
    answer = _position(read, cursor)
    answer += [(b"etag", tag), (b"cache-control", cache)]
    if if_none_match is not None:
        for known in (tag, caching.compressed_etag(tag)):
            if caching.etag_matches(if_none_match, known):
                answer[-2] = (b"etag", known)
                return Response(304, answer, vary_encoding=True, is_public=public)
    answer.append((CONTENT_TYPE, read.state.media.text.encode("latin-1")))
    kind = read.state.media.kind
    if kind is Kind.BINARY:
        answer.append(_ATTACHMENT)
    if kind is Kind.JSON and not read.data:
        return Response(200, answer, b"[]", vary_encoding=True, is_public=public)
    return Response(
        200,
        answer,
        read.data,
        vary_encoding=True,
        array=kind is Kind.JSON,
        holder=read.holder,
        is_public=public,
    )


def tail(read: Page) -> Response:
    """Returns the response to a GET with `offset=now`: the tail, and no data (PROTOCOL 8)."""
    headers = [
        *_position(read, None),
        _NO_STORE,
        (CONTENT_TYPE, read.state.media.text.encode("latin-1")),
    ]
    empty = b"[]" if read.state.media.kind is Kind.JSON else b""
    return Response(200, headers, empty, is_public=read.state.public)


def nothing_new(read: Page, cursor: str | None) -> Response:
    """Returns the response to a long-poll without data, 204, after a timeout or the end of the stream (PROTOCOL 5.7)."""
    headers = [*_position(read, cursor), _NO_STORE]
    return Response(204, headers, is_public=read.state.public)


def event_stream(state: StreamState) -> Response:
    """Returns the response that begins an event stream, without a body (PROTOCOL 5.8)."""
    headers = [
        (CONTENT_TYPE, EVENT_STREAM),
        (b"cache-control", caching.EVENTS),
        (b"x-accel-buffering", b"no"),  # otherwise nginx would buffer events
        # Caddy 2.6.2 compresses despite no-transform, and then buffers events. It does not compress a response with a content coding.
        (b"content-encoding", b"identity"),
    ]
    if needs_base64(state.media):
        headers.append((STREAM_SSE_DATA_ENCODING, b"base64"))
    if state.public:
        headers.append(_PUBLIC)
    return Response(200, headers, is_public=state.public)


def error(refusal: StreamError) -> Response:
    """Returns the response for an error: a small JSON document with a stable code and a sentence."""
    document = {"error": {"code": refusal.code, "message": refusal.message, **refusal.details}}
    headers = [*refusal.headers, (CONTENT_TYPE, b"application/json"), _NO_STORE]
    return Response(refusal.status, headers, msgspec.json.encode(document))


def _position(read: Page, cursor: str | None) -> list[Header]:
    """Returns the headers that say where a page ends, whether the stream is public, and the cursor."""
    headers: list[Header] = [(STREAM_NEXT_OFFSET, read.state.name(read.end).encode())]
    if read.at_tail:
        headers.append(_UP_TO_DATE)
    if read.closed:
        headers.append(_CLOSED)
    elif cursor is not None:
        headers.append((STREAM_CURSOR, cursor.encode()))
    if read.state.public:
        headers.append(_PUBLIC)
    return headers
