"""Turns states, outcomes and pages into the results that programs receive. The synchronous stores and `Streams` share these functions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..protocol.decisions.outcomes import AppendOutcome
from ..protocol.json.mode import value_ends
from ..protocol.media import Kind
from ..protocol.page import Page
from ..protocol.results import AppendResult, HeadResult, StreamPage
from ..protocol.state import StreamState
from ..protocol.units import SECOND


@dataclass(frozen=True, slots=True)
class Stream:
    """The properties of a stream at one moment.

    Attributes:
        path: the decoded path of the stream.
        content_type: the content type as given at creation.
        current_offset: the tail.
        closed: whether the stream accepts no more appends.
        ttl_seconds: the sliding lifetime in seconds; None if the stream has no such lifetime.
        expires_at: the deadline as given at creation; None if the stream has no deadline.
        created_at: the time of creation, in seconds of Unix time.
        forked_from: the path of the source; None unless the stream is a fork.
        fork_offset: the offset at which the fork leaves its source; None unless the stream is a fork.
        soft_deleted: whether the stream is deleted but kept because it has forks.
        public: whether anyone may read the stream without a token.
    """

    path: str
    content_type: str
    current_offset: str
    closed: bool
    ttl_seconds: int | None
    expires_at: str | None
    created_at: float
    forked_from: str | None
    fork_offset: str | None
    soft_deleted: bool
    public: bool


@dataclass(frozen=True, slots=True)
class StreamMessage:
    """One JSON value of a stream, or one run of bytes.

    Attributes:
        data: the bytes of the value or run.
        offset: the offset after these bytes.
    """

    data: bytes
    offset: str


@dataclass(frozen=True, slots=True)
class ReadResult:
    """The data of a stream from one offset to the tail.

    Attributes:
        messages: the data in order. In a JSON stream, each value is a message; in other streams, each page is a message.
        next_offset: the offset to continue from.
        up_to_date: whether `next_offset` is the tail.
        closed: whether the stream is closed and ends at `next_offset`.
    """

    messages: list[StreamMessage]
    next_offset: str
    up_to_date: bool
    closed: bool

    @property
    def data(self) -> bytes:
        """The data of all messages. JSON values are joined without separators."""
        return b"".join(message.data for message in self.messages)


def stream_of(state: StreamState) -> Stream:
    """Returns the properties of a stream, as readers may see them."""
    return Stream(
        path=state.path,
        content_type=state.media.text,
        current_offset=state.name(state.visible_tail),
        closed=state.visible_closed,
        ttl_seconds=state.lifetime.ttl,
        expires_at=state.lifetime.expires_text,
        created_at=(state.created_at + state.timeline.offset) / SECOND,
        forked_from=state.origin.source if state.origin else None,
        fork_offset=state.origin.anchor if state.origin else None,
        soft_deleted=state.visible_soft_deleted,
        public=state.public,
    )


def messages_of(page: Page) -> Iterator[StreamMessage]:
    """Yields the JSON values of a page, or its bytes as one message. An empty page has no message."""
    state, start, data = page.state, page.start, page.data
    if not data:
        return
    if state.media.kind is not Kind.JSON:
        yield StreamMessage(data, state.name(start + len(data)))
        return
    begin = 0
    for end in value_ends(data):
        yield StreamMessage(data[begin : end - 1], state.name(start + end))
        begin = end


def append_result(outcome: AppendOutcome, has_data: bool) -> AppendResult:
    """Returns the result of an append.

    Args:
        outcome: the outcome of the decision.
        has_data: whether the append had data. If it had data but wrote nothing, it was a duplicate.
    """
    epoch, seq = outcome.producer or (None, None)
    is_duplicate = has_data and not outcome.wrote
    return AppendResult(outcome.next_offset, outcome.closed, is_duplicate, epoch, seq)


def head_result(state: StreamState) -> HeadResult:
    """Returns the properties that a HEAD request shows."""
    lifetime = state.lifetime
    return HeadResult(
        state.media.text,
        state.name(state.visible_tail),
        state.visible_closed,
        lifetime.ttl,
        lifetime.expires_text,
        state.public,
    )


def stream_page(page: Page) -> StreamPage:
    """Returns a page with the body that an HTTP response would have."""
    state, data = page.state, page.data
    if state.media.kind is Kind.JSON:
        data = b"[%b]" % data[:-1]
    return StreamPage(data, state.name(page.end), page.at_tail, page.closed, state.media.text)
