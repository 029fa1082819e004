"""Tests of comparing cursors with streams that were replaced, truncated or forked."""

import pytest

from durable_streams_server.protocol.lifetime import FOREVER
from durable_streams_server.protocol.media import parse_media_type
from durable_streams_server.protocol.offsets import Offset, Span
from durable_streams_server.protocol.state import Origin, StreamState
from durable_streams_server.protocol.subscriptions.cursors import belongs_to, unread_from
from tests.requests import NOW

TEXT = parse_media_type("text/plain")


def stream(tail: int = 9) -> StreamState:
    """Returns a fork of the incarnation 3 at position 4."""
    origin = Origin("/source", 3, "", 0, 4)
    made = StreamState("/a", 7, TEXT, FOREVER, NOW, origin, (Span(3, 4),))
    made.tail = tail
    return made


@pytest.mark.parametrize("cursor", [Offset(7, 5), Offset(3, 4), Offset(3, 0), Offset(0, 0)])
def test_bytes_after_the_cursor_are_unread(cursor: Offset) -> None:
    assert unread_from(cursor, stream()) == cursor
    assert belongs_to(cursor, stream())


@pytest.mark.parametrize(("cursor", "tail"), [(Offset(7, 9), 9), (Offset(7, 9), 6)])
def test_cursor_at_or_past_the_tail_has_no_unread_bytes(cursor: Offset, tail: int) -> None:
    assert unread_from(cursor, stream(tail)) is None


def test_cursor_of_an_earlier_incarnation_makes_the_whole_stream_unread() -> None:
    assert unread_from(Offset(5, 8), stream()) == Offset(3, 4)
    assert not belongs_to(Offset(5, 8), stream())
