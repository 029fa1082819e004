"""Tests of rendering outcomes and errors as responses."""

import json

import pytest

from durable_streams_server.errors import StreamClosed, StreamError
from durable_streams_server.protocol import caching, render
from durable_streams_server.protocol.decisions.outcomes import AppendOutcome, CreateOutcome
from durable_streams_server.protocol.lifetime import FOREVER, Lifetime
from durable_streams_server.protocol.media import parse_media_type
from durable_streams_server.protocol.offsets import Sentinel
from durable_streams_server.protocol.page import Page
from durable_streams_server.protocol.producers import ProducerState
from durable_streams_server.protocol.state import StreamState
from tests.requests import NOW

OFFSET = "0000000000000001_0000000000000003"


def state(media: str = "application/json", lifetime: Lifetime = FOREVER) -> StreamState:
    """Returns a stream with three visible bytes."""
    made = StreamState("/a", 1, parse_media_type(media), lifetime, NOW)
    made.visible_tail = 3
    return made


def page(data: bytes = b"42,", closed: bool = False, media: str = "application/json") -> Page:
    """Returns a page that ends at the tail."""
    return Page(state(media), 3 - len(data), 3, data, True, closed)


@pytest.mark.parametrize(("created", "status"), [(True, 201), (False, 200)])
def test_create_response_has_a_location_only_for_a_new_stream(created: bool, status: int) -> None:
    outcome = CreateOutcome("/a", OFFSET, parse_media_type("text/plain"), True, created)
    response = render.created(outcome, b"http://h/a")
    headers = dict(response.headers)
    assert response.status == status
    assert headers[b"stream-next-offset"] == OFFSET.encode()
    assert headers[b"stream-closed"] == b"true"
    assert headers[b"content-type"] == b"text/plain"
    assert (b"location" in headers) is created


@pytest.mark.parametrize(
    ("wrote", "producer", "status"),
    [
        (True, None, 204),
        (False, None, 204),
        (True, ProducerState(1, 2), 200),
        (False, ProducerState(1, 2), 204),
    ],
)
def test_append_response_has_status_200_for_new_data_of_a_producer(
    wrote: bool, producer: ProducerState | None, status: int
) -> None:
    response = render.appended(AppendOutcome(OFFSET, False, wrote, producer))
    headers = dict(response.headers)
    assert response.status == status
    if producer is not None:
        assert (headers[b"producer-epoch"], headers[b"producer-seq"]) == (b"1", b"2")


def test_head_response_has_all_metadata() -> None:
    closed = state("text/plain", Lifetime(ttl=9))
    closed.visible_closed = True
    headers = dict(render.head(closed).headers)
    assert headers[b"stream-ttl"] == b"9"
    assert headers[b"stream-closed"] == b"true"
    assert headers[b"cache-control"] == b"no-store"
    dated = render.head(state(lifetime=Lifetime(expires_at=1, expires_text="2030-01-01T00:00:00Z")))
    assert dict(dated.headers)[b"stream-expires-at"] == b"2030-01-01T00:00:00Z"


def test_every_response_about_a_public_stream_says_that_it_is_public() -> None:
    public = (b"stream-public", b"true")
    private, shown = state(), page(b"")
    shown.state.public = True
    made = CreateOutcome("/a", OFFSET, private.media, False, True, True)
    assert public in render.created(made, b"/a").headers
    assert public in render.head(shown.state).headers
    assert public in render.page(shown, NOW).headers
    assert public in render.page(shown, NOW, b"*").headers
    assert public in render.tail(shown).headers
    assert public in render.nothing_new(shown, "1").headers
    assert public in render.event_stream(shown.state).headers
    for response in (render.head(private), render.page(page(), NOW), render.event_stream(private)):
        assert public not in response.headers


def test_json_page_is_an_array_of_the_exact_bytes() -> None:
    response = render.page(page(), NOW)
    assert (response.status, response.whole, response.size) == (200, b"[42]", 4)
    assert b"".join(response.parts) == b"[42]"
    assert render.page(page(b""), NOW).whole == b"[]"


def test_binary_page_is_an_attachment() -> None:
    headers = dict(render.page(page(media="image/png"), NOW).headers)
    assert headers[b"content-disposition"] == b"attachment"


def test_304_has_the_next_offset_and_is_not_sent_once_the_stream_is_closed() -> None:  # TRAPS 23
    tag = dict(render.page(page(), NOW).headers)[b"etag"]
    same = render.page(page(), NOW, if_none_match=tag)
    assert (same.status, same.body) == (304, b"")
    assert dict(same.headers)[b"stream-next-offset"] == OFFSET.encode()
    assert render.page(page(closed=True), NOW, if_none_match=tag).status == 200
    assert render.page(page(), NOW, if_none_match=caching.compressed_etag(tag)).status == 304


def test_cursor_is_sent_until_the_stream_is_closed() -> None:
    assert dict(render.page(page(), NOW, cursor="7").headers)[b"stream-cursor"] == b"7"
    assert b"stream-cursor" not in dict(render.page(page(closed=True), NOW, cursor="7").headers)


def test_tail_and_empty_long_poll_are_not_cached() -> None:  # TRAPS 35
    for response in (render.tail(page(b"")), render.nothing_new(page(b""), "7")):
        headers = dict(response.headers)
        assert headers[b"cache-control"] == b"no-store"
        assert b"etag" not in headers
        assert headers[b"stream-up-to-date"] == b"true"


def test_live_page_from_now_is_not_cached() -> None:  # PROTOCOL 8
    answer = render.page(page(), NOW, cursor="7", offset=Sentinel.NOW, shared_age=5)
    assert dict(answer.headers)[b"cache-control"] == b"no-store"


def test_duplicate_common_header_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        render.Common([(b"vary", b"Origin"), (b"vary", b"Accept-Encoding")])


@pytest.mark.parametrize(
    ("media", "encoded"),
    [("image/png", True), ("text/plain", False), ("text/plain;charset=iso-8859-1", True)],
)
def test_event_stream_response_names_the_encoding_of_its_data(media: str, encoded: bool) -> None:
    headers = dict(render.event_stream(state(media)).headers)
    assert headers[b"content-type"] == b"text/event-stream"
    assert headers[b"x-accel-buffering"] == b"no"
    assert (headers.get(b"stream-sse-data-encoding") == b"base64") is encoded


def test_error_response_is_json_and_is_not_cached() -> None:
    response = render.error(StreamClosed("it is closed", headers=[(b"stream-closed", b"true")]))
    headers = dict(response.headers)
    assert response.status == 409
    assert json.loads(response.body) == {
        "error": {"code": "STREAM_CLOSED", "message": "it is closed"}
    }
    assert headers[b"cache-control"] == b"no-store"
    assert headers[b"stream-closed"] == b"true"
    assert render.error(StreamError("the server failed")).status == 500


def test_etag_of_head_ignores_an_append_that_is_not_durable() -> None:
    made = page().state
    made.tail = made.visible_tail = 5
    for closed in (False, True):
        made.visible_closed = closed
        tag = dict(render.head(made).headers)[b"etag"]
        assert tag == caching.etag(made, 0, 5, True, closed)
        assert render.head(made, tag).status == 304
        assert render.head(made, b"*").status == 304
        assert render.head(made, b'"x"').status == 200
    made.tail = 9  # an append that is not durable yet
    assert dict(render.head(made).headers)[b"etag"] == tag
