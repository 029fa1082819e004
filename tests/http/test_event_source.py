"""A browser's EventSource reconnects by itself, with the last id that it was sent, until it is answered 204."""

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
    *_, last = re.finditer(rb"^id:(\S+)$", body, re.M)
    return last[1].decode()


async def test_event_source_is_told_to_stop_at_the_end_of_a_closed_stream(ask: Caller) -> None:
    await ask("PUT", A, TEXT, b"hello")
    opened = await ask("GET", EVENTS)
    reached = {"last-event-id": last_id(opened.body), "origin": "https://app.example"}
    for _ in range(2):  # it comes back for as long as there may be more
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
async def test_event_source_of_a_stream_that_is_closed_already_comes_back_once(
    ask: Caller, body: bytes, offset: str
) -> None:
    await ask("PUT", A, {**TEXT, "stream-closed": "true"}, body)
    url = f"{A}?offset={offset}&live=sse"
    first = await ask("GET", url)
    assert (first.status, b"streamClosed" in first.body) == (200, True)
    assert (await ask("GET", url, {"last-event-id": last_id(first.body)})).status == 204


async def test_reader_whose_offset_is_the_end_still_gets_the_last_control_event(
    ask: Caller,
) -> None:  # PROTOCOL 5.8
    made = await ask("PUT", A, {**TEXT, "stream-closed": "true"}, b"hello")
    url = f"{A}?offset={made.headers['stream-next-offset']}&live=sse"
    for headers in ({}, {"last-event-id": ""}, {"last-event-id": "now"}):
        answer = await ask("GET", url, headers)
        assert (answer.status, b"streamClosed" in answer.body) == (200, True)


async def test_event_source_that_has_not_read_to_the_end_gets_the_rest(ask: Caller) -> None:
    made = await ask("PUT", A, TEXT)
    before = {"last-event-id": made.headers["stream-next-offset"]}
    await ask("POST", A, {**TEXT, "stream-closed": "true"}, b"hello")
    answer = await ask("GET", EVENTS, before)
    assert (answer.status, b"hello" in answer.body) == (200, True)


async def test_end_of_a_fork_without_bytes_of_its_own_is_its_source_s_offset(ask: Caller) -> None:
    source = await ask("PUT", ROOT + "source", TEXT, b"hello")
    end = {"last-event-id": source.headers["stream-next-offset"]}
    fork = {"stream-forked-from": ROOT + "source", "stream-closed": "true"}
    await ask("PUT", A, fork)
    assert (await ask("GET", EVENTS, end)).status == 204
    assert (await ask("GET", EVENTS.replace("/a?", "/source?"), end)).status == 200


async def test_event_source_of_a_stream_that_is_gone_is_refused(ask: Caller) -> None:
    await ask("PUT", A, {**TEXT, "stream-closed": "true"}, b"hello")
    end = {"last-event-id": last_id((await ask("GET", EVENTS)).body)}
    await ask("DELETE", A)
    assert (await ask("GET", EVENTS, end)).status == 404
    await ask("PUT", A, {**TEXT, "stream-closed": "true"}, b"other")
    assert (await ask("GET", EVENTS, end)).status == 410


async def test_answer_of_204_lets_go_of_the_stream(ask: Caller) -> None:
    """A reader that is attached would keep a sliding lifetime from running out."""
    made = await ask("PUT", A, {**TEXT, "stream-closed": "true", "stream-ttl": "60"}, b"hello")
    end = {"last-event-id": made.headers["stream-next-offset"]}
    assert (await ask("GET", EVENTS, end)).status == 204
    state = ask.app.engine.find_loaded(A)
    assert state is not None
    assert state.readers == 0


async def test_event_stream_is_changed_by_no_proxy_and_begins_at_once(ask: Caller) -> None:
    await ask("PUT", A, TEXT)
    answer = await ask("GET", EVENTS)
    assert answer.headers["cache-control"] == "no-cache, no-transform"
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.headers["content-encoding"] == "identity"
    assert answer.body.startswith(b"retry:1000\nid:")
