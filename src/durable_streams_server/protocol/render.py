"""Outcomes and errors as responses: status, headers, body. Headers common to all responses are added by `http/`."""

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
_UP_TO_DATE: Final[Header] = (STREAM_UP_TO_DATE, b"true")
_ATTACHMENT: Final[Header] = (b"content-disposition", b"attachment")
_NO_HEADERS: Final[Mapping[bytes, bytes]] = {}


class Common:
    """Headers that a server adds to its responses: as pairs, and as the lines that they are in HTTP/1.1.

    Raises:
        ValueError: one of them comes twice.
    """

    __slots__ = ("lines", "pairs")

    def __init__(self, pairs: Sequence[Header]) -> None:
        if len(dict(pairs)) != len(pairs):
            raise ValueError("a header comes twice")
        self.pairs = tuple(pairs)
        self.lines = b"".join(b"%b: %b\r\n" % pair for pair in pairs)


_NOTHING_COMMON: Final = Common(())


class Response(msgspec.Struct):
    """One whole response.

    Attributes:
        status: the HTTP status code.
        headers: names in lower case.
        body: the body, or, of an array, wire values each followed by a comma.
        array: whether the body goes out as the JSON array of the values in `body` (PROTOCOL 9.1.5).
        vary_encoding: whether the body may be sent compressed, and so varies with Accept-Encoding.
        common: more headers, the same for all responses.
        holder: what must be held until the client has taken the body, or None: it counts large pages.
    """

    status: int
    headers: list[Header]
    body: bytes = b""
    vary_encoding: bool = False
    common: Common = _NOTHING_COMMON
    array: bool = False
    holder: object = None

    @property
    def size(self) -> int:
        """The bytes of the body as it goes out."""
        return len(self.body) + 1 if self.array else len(self.body)

    @property
    def parts(self) -> tuple[bytes | memoryview, ...]:
        """The body as it goes out, in parts, without a copy of it."""
        return (b"[", memoryview(self.body)[:-1], b"]") if self.array else (self.body,)

    @property
    def whole(self) -> bytes:
        """The body as it goes out."""
        return b"".join(self.parts) if self.array else self.body

    @property
    def all_headers(self) -> list[Header]:
        """Every header, its own and the common ones."""
        return [*self.headers, *self.common.pairs]


def created(outcome: CreateOutcome, location: bytes) -> Response:
    """PUT: 201 with the stream's URL, or 200 (PROTOCOL 5.1)."""
    headers = [
        (CONTENT_TYPE, outcome.media.text.encode("latin-1")),
        (STREAM_NEXT_OFFSET, outcome.next_offset.encode()),
        _NO_STORE,
    ]
    if outcome.closed:
        headers.append(_CLOSED)
    if outcome.created:
        headers.append((b"location", location))
    return Response(201 if outcome.created else 200, headers)


def appended(outcome: AppendOutcome) -> Response:
    """POST: 204, or 200 for new data from a producer (PROTOCOL 5.2, 5.2.1)."""
    headers = [(STREAM_NEXT_OFFSET, outcome.next_offset.encode()), _NO_STORE]
    producer = outcome.producer
    if producer is not None:
        headers.append((PRODUCER_EPOCH, b"%d" % producer.epoch))
        headers.append((PRODUCER_SEQ, b"%d" % producer.seq))
    if outcome.closed:
        headers.append(_CLOSED)
    return Response(200 if producer is not None and outcome.wrote else 204, headers)


def deleted() -> Response:
    """DELETE: 204 (PROTOCOL 5.4)."""
    return Response(204, [_NO_STORE])


def head(state: StreamState, if_none_match: bytes | None = None) -> Response:
    """HEAD: the stream's metadata, or 304 when the client has it (PROTOCOL 5.5).

    The entity tag is that of a page with all of the stream, as GET sends where the stream fits one page.

    Args:
        state: the stream.
        if_none_match: the request's header of that name.
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
    has_it = if_none_match is not None and caching.etag_matches(if_none_match, tag)
    return Response(304 if has_it else 200, headers)


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
    """GET: one page, or 304 when the client has it (PROTOCOL 5.6, 5.7, 10.1).

    Args:
        read: the page.
        now: microseconds of steady time.
        if_none_match: the request's header of that name.
        cursor: the cursor to send, for a live read.
        offset: what the client asked for.
        headers: the request's, which say for whom a cache may keep the page.
        shared_age: seconds that shared caches may keep a page that can change.
    """
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
                return Response(304, answer, vary_encoding=True)
    answer.append((CONTENT_TYPE, read.state.media.text.encode("latin-1")))
    kind = read.state.media.kind
    if kind is Kind.BINARY:
        answer.append(_ATTACHMENT)
    if kind is Kind.JSON and not read.data:
        return Response(200, answer, b"[]", vary_encoding=True)
    return Response(
        200,
        answer,
        read.data,
        vary_encoding=True,
        array=kind is Kind.JSON,
        holder=read.holder,
    )


def tail(read: Page) -> Response:
    """GET with `offset=now`: where the tail is, and nothing of the stream (PROTOCOL 8)."""
    headers = [
        *_position(read, None),
        _NO_STORE,
        (CONTENT_TYPE, read.state.media.text.encode("latin-1")),
    ]
    return Response(200, headers, b"[]" if read.state.media.kind is Kind.JSON else b"")


def nothing_new(read: Page, cursor: str | None) -> Response:
    """A live read without data: 204, because a long-poll's time is up or the stream has ended (PROTOCOL 5.7)."""
    return Response(204, [*_position(read, cursor), _NO_STORE])


def event_stream(state: StreamState) -> Response:
    """The head of an SSE response (PROTOCOL 5.8)."""
    headers = [
        (CONTENT_TYPE, EVENT_STREAM),
        (b"cache-control", caching.EVENTS),
        (b"x-accel-buffering", b"no"),  # or nginx would hold events back
        # Caddy 2.6.2 compresses despite no-transform, and then holds events back. It leaves a response with a coding alone.
        (b"content-encoding", b"identity"),
    ]
    if needs_base64(state.media):
        headers.append((STREAM_SSE_DATA_ENCODING, b"base64"))
    return Response(200, headers)


def error(refusal: StreamError) -> Response:
    """A refusal as a small JSON document: a stable code and a sentence."""
    document = {"error": {"code": refusal.code, "message": refusal.message, **refusal.details}}
    headers = [*refusal.headers, (CONTENT_TYPE, b"application/json"), _NO_STORE]
    return Response(refusal.status, headers, msgspec.json.encode(document))


def _position(read: Page, cursor: str | None) -> list[Header]:
    headers: list[Header] = [(STREAM_NEXT_OFFSET, read.state.name(read.end).encode())]
    if read.at_tail:
        headers.append(_UP_TO_DATE)
    if read.closed:
        headers.append(_CLOSED)
    elif cursor is not None:
        headers.append((STREAM_CURSOR, cursor.encode()))
    return headers
