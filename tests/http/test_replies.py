"""The replies that are made from event streams, and the refusal of unknown methods."""

import pytest

from durable_streams_server.http.replies import (
    Live,
    show_events,
    show_resumed_events,
    unknown_method,
)
from durable_streams_server.protocol.render import Response
from durable_streams_server.streams.event_stream import EventStream
from tests.requests import append, create
from tests.streams.engines import Bench, read


async def events_of(*, closed: bool) -> EventStream:
    """Opens an event stream at the tail of a stream."""
    bench = Bench()
    bench.engine.start()
    made = bench.engine.create(create("/a", "text/plain", b"x")).result()
    if closed:
        bench.engine.append(append("/a", closes=True)).result()
    tail = made.next_offset.encode().decode()
    return bench.engine.events(read("/a", offset=tail, live="sse"), lambda: None).result()


async def test_new_reader_of_closed_stream_gets_its_last_event() -> None:
    live = show_events(await events_of(closed=True))
    assert live.head.status == 200
    live.events.close()


@pytest.mark.parametrize("closed", [False, True])
async def test_reader_that_reconnects_gets_204_only_at_end_of_closed_stream(closed: bool) -> None:
    reply = show_resumed_events(await events_of(closed=closed))
    if closed:
        assert isinstance(reply, Response)
        assert reply.status == 204
    else:
        assert isinstance(reply, Live)
        reply.events.close()


def test_refusal_of_unknown_method_lists_the_methods_of_streams() -> None:
    error = unknown_method()
    assert error.status == 405
    assert error.headers == ((b"allow", b"GET, HEAD, PUT, POST, DELETE, OPTIONS"),)
