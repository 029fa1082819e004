"""A browser's EventSource reconnects by itself, with the last event id that it received, until a response is 204."""

import re

import pytest

from durable_streams_server import create_app
from tests.http.lanes import Caller

ROOT = "/v1/stream/"
A = ROOT + "a"
TEXT = {"content-type": "text/plain"}
EVENTS = f"{A}?offset=-1&live=sse"


@pytest.fixture(params=["asgi", "native"])
def ask(request: pytest.FixtureRequest) -> Caller:
    return Caller(
        create_app(cors=["https://app.example"], sse_max_age=0.01), request.param == "native"
    )


def last_id(body: bytes) -> str:
    """Returns the last event id in the body of an event stream."""
    *_, last = re.finditer(rb"^id:(\S+)$", body, re.M)
    return last[1].decode()


async def test_event_source_gets_204_at_the_end_of_a_closed_stream(ask: Caller) -> None:
    await ask("PUT", A, TEXT, b"hello")
    opened = await ask("GET", EVENTS)
    reached = {"last-event-id": last_id(opened.body), "origin": "https://app.example"}
    for _ in range(2):  # until the stream is closed, every response is an event stream
        assert b"upToDate" in (await ask("GET", EVENTS, reached)).body
    await ask("POST", A, {"stream-closed": "true"})
    for _ in range(2):
        stopped = await ask("GET", EVENTS, reached)
        assert (stopped.status, stopped.body) == (204, b"")
        assert stopped.headers["stream-closed"] == "true"
        assert stopped.headers["stream-up-to-date"] == "true"
        assert stopped.headers["stream-next-offset"] == reached["last-event-id"]
        assert stopped.headers["cache-control"] == "no-store"
        assert stopped.headers["access-control-allow-origin"] == "https://app.example"


@pytest.mark.parametrize("body", [b"", b"hello"])
@pytest.mark.parametrize("offset", ["-1", "now"])
async def test_event_source_of_a_closed_stream_reconnects_once(
    ask: Caller, body: bytes, offset: str
) -> None:
    await ask("PUT", A, {**TEXT, "stream-closed": "true"}, body)
    url = f"{A}?offset={offset}&live=sse"
    first = await ask("GET", url)
    assert (first.status, b"streamClosed" in first.body) == (200, True)
    assert (await ask("GET", url, {"last-event-id": last_id(first.body)})).status == 204


async def test_reader_without_last_event_id_gets_a_control_event_at_the_end(
    ask: Caller,
) -> None:  # PROTOCOL 5.8
    made = await ask("PUT", A, {**TEXT, "stream-closed": "true"}, b"hello")
    url = f"{A}?offset={made.headers['stream-next-offset']}&live=sse"
    for headers in ({}, {"last-event-id": ""}, {"last-event-id": "now"}):
        answer = await ask("GET", url, headers)
        assert (answer.status, b"streamClosed" in answer.body) == (200, True)


async def test_event_source_before_the_end_gets_the_remaining_events(ask: Caller) -> None:
    made = await ask("PUT", A, TEXT)
    before = {"last-event-id": made.headers["stream-next-offset"]}
    await ask("POST", A, {**TEXT, "stream-closed": "true"}, b"hello")
    answer = await ask("GET", EVENTS, before)
    assert (answer.status, b"hello" in answer.body) == (200, True)


async def test_event_source_at_the_end_of_an_empty_closed_fork_gets_204(ask: Caller) -> None:
    source = await ask("PUT", ROOT + "source", TEXT, b"hello")
    end = {"last-event-id": source.headers["stream-next-offset"]}
    fork = {"stream-forked-from": ROOT + "source", "stream-closed": "true"}
    await ask("PUT", A, fork)
    assert (await ask("GET", EVENTS, end)).status == 204
    assert (await ask("GET", EVENTS.replace("/a?", "/source?"), end)).status == 200


async def test_event_source_of_a_deleted_stream_is_refused(ask: Caller) -> None:
    await ask("PUT", A, {**TEXT, "stream-closed": "true"}, b"hello")
    end = {"last-event-id": last_id((await ask("GET", EVENTS)).body)}
    await ask("DELETE", A)
    assert (await ask("GET", EVENTS, end)).status == 404
    await ask("PUT", A, {**TEXT, "stream-closed": "true"}, b"other")
    assert (await ask("GET", EVENTS, end)).status == 410


async def test_event_source_that_gets_204_leaves_no_reader(ask: Caller) -> None:
    """A reader that stayed attached would keep the stream's TTL from running out."""
    made = await ask("PUT", A, {**TEXT, "stream-closed": "true", "stream-ttl": "60"}, b"hello")
    end = {"last-event-id": made.headers["stream-next-offset"]}
    assert (await ask("GET", EVENTS, end)).status == 204
    state = ask.app.engine.find_loaded(A)
    assert state is not None
    assert state.readers == 0


async def test_event_stream_forbids_transformation_and_buffering_by_proxies(ask: Caller) -> None:
    await ask("PUT", A, TEXT)
    answer = await ask("GET", EVENTS)
    assert answer.headers["cache-control"] == "no-cache, no-transform"
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.headers["content-encoding"] == "identity"
    assert answer.body.startswith(b"retry:1000\nid:")
