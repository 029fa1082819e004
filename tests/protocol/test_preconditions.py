"""Tests of the preconditions of writes."""

import pytest

from durable_streams_server.errors import PreconditionFailed
from durable_streams_server.protocol import caching
from durable_streams_server.protocol.lifetime import FOREVER
from durable_streams_server.protocol.media import parse_media_type
from durable_streams_server.protocol.preconditions import (
    Conditions,
    check_conditions,
    parse_conditions,
    tag_of,
)
from durable_streams_server.protocol.state import StreamState
from tests.requests import NOW

TAG = b'"0000000000000007:0:5:t"'


def state(tail: int = 5, closed: bool = False, incarnation: int = 7) -> StreamState:
    """Returns the state of a text stream."""
    made = StreamState("/a", incarnation, parse_media_type("text/plain"), FOREVER, NOW)
    made.tail = tail
    made.closed = closed
    return made


def holds(headers: dict[bytes, bytes], found: StreamState | None) -> bool:
    """Returns whether the conditions in the headers are true for a state."""
    conditions = parse_conditions(headers)
    assert conditions is not None
    try:
        check_conditions(conditions, found)
    except PreconditionFailed:
        return False
    return True


def test_request_without_if_match_and_if_none_match_has_no_conditions() -> None:
    assert parse_conditions({b"if-modified-since": b"x", b"if-unmodified-since": b"x"}) is None


def test_etag_of_a_stream_equals_that_of_its_whole_page() -> None:
    assert tag_of(state()) == TAG == caching.etag(state(), 0, 5, True, False)
    assert tag_of(state(closed=True)) == caching.etag(state(), 0, 5, True, True)


@pytest.mark.parametrize(
    "tags",
    [
        b"*",
        b" * ",
        TAG,
        b'"0000000000000007:3:5:t"',  # the tag of a page that ends at the tail
        b'"0000000000000007:5:5:t"',
        caching.compressed_etag(TAG),
        b'"x", ' + TAG,
        b'"a,b",,' + TAG + b",",
    ],
)
def test_if_match_is_true_for_tags_of_the_present_state(tags: bytes) -> None:
    assert holds({b"if-match": tags}, state())
    assert not holds({b"if-none-match": tags}, state())


@pytest.mark.parametrize(
    "tags",
    [
        b"",
        b",",
        b'""',
        b'"x"',
        b"0000000000000007:0:5:t",  # a tag needs quotes
        b'"*"',
        b'"0000000000000007:0:4:t"',  # an earlier tail
        b'"0000000000000007:0:6:t"',
        b'"0000000000000007:0:5:c"',  # the stream is open
        b'"0000000000000007:0:5"',  # the tag of a page that did not end at the tail
        b'"0000000000000006:0:5:t"',  # an earlier stream at the path
        b'"7:0:5:t"',
        b'"0000000000000007:0:05:t"',
        b'"0000000000000007:x:5:t"',
        b'"0000000000000007:0:5:t',
        b"\xff",
    ],
)
def test_if_match_is_false_for_other_tags(tags: bytes) -> None:
    assert not holds({b"if-match": tags}, state())
    assert holds({b"if-none-match": tags}, state())


def test_if_match_compares_strongly_and_if_none_match_weakly() -> None:  # RFC 9110, 13.1
    assert not holds({b"if-match": b"W/" + TAG}, state())
    assert not holds({b"if-none-match": b"W/" + TAG}, state())


def test_close_of_a_stream_changes_its_etag() -> None:
    assert not holds({b"if-match": TAG}, state(closed=True))
    assert holds({b"if-match": tag_of(state(closed=True))}, state(closed=True))


def test_missing_stream_fulfils_if_none_match_but_not_if_match() -> None:
    for tags in (b"*", TAG):
        assert not holds({b"if-match": tags}, None)
        assert holds({b"if-none-match": tags}, None)


def test_both_conditions_must_be_true() -> None:
    assert holds({b"if-match": TAG, b"if-none-match": b'"x"'}, state())
    assert not holds({b"if-match": b'"x"', b"if-none-match": b'"x"'}, state())
    assert not holds({b"if-match": TAG, b"if-none-match": TAG}, state())


def test_precondition_error_has_headers_with_the_present_state() -> None:
    with pytest.raises(PreconditionFailed) as refused:
        check_conditions(Conditions((b'"x"',), None), state(closed=True))
    assert refused.value.code == "PRECONDITION_FAILED"
    assert dict(refused.value.headers) == {
        b"etag": b'"0000000000000007:0:5:c"',
        b"stream-next-offset": b"0000000000000007_0000000000000005",
        b"stream-closed": b"true",
    }
    with pytest.raises(PreconditionFailed) as refused:
        check_conditions(Conditions((b"*",), None), None)
    assert refused.value.headers == ()
