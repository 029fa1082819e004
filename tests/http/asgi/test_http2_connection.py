"""`Http2Connection`, frame by frame and without a socket: idle time, windows, limits, and GOAWAY."""

import contextlib
import gc
import weakref
from typing import Any, cast

import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import pytest

from durable_streams_server.http.asgi import http2
from durable_streams_server.http.limits.admission import Admission
from durable_streams_server.http.limits.timeouts import Timeouts
from tests.http.asgi.http2_clients import (
    A,
    WireClient,
)
from tests.http.socket_driver import until


async def test_idle_connection_is_closed_despite_pings() -> None:
    client = WireClient(Timeouts())
    timer = client.server.timeout_keep_alive_task
    assert timer is not None
    for _ in range(3):
        client.h2.ping(b"12345678")
        client.flush()
    assert await client.saw(h2.events.PingAckReceived)
    assert client.server.timeout_keep_alive_task is timer
    assert not timer.cancelled()
    client.server.timeout_keep_alive_handler()
    assert await client.saw(h2.events.ConnectionTerminated)


async def test_connection_with_an_event_stream_is_not_idle() -> None:
    client = WireClient(Timeouts(idle=0.05))
    client.ask(f"{A}?offset=-1&live=sse")
    await client.saw(h2.events.ResponseReceived)
    timer = client.server.timeout_keep_alive_task
    assert timer is None
    client.server.transport.abort()


async def test_retired_connection_sends_goaway_after_its_event_stream_has_ended() -> None:
    client = WireClient(Timeouts())
    assert not client.server.has_events
    client.ask(f"{A}?offset=-1&live=sse")
    await client.saw(h2.events.DataReceived)
    assert client.server.has_events
    assert not client.server.is_writing
    client.server.retire()
    assert not any(isinstance(event, h2.events.ConnectionTerminated) for event in client.seen)
    client.app.begin_drain(0.01)
    assert await client.saw(h2.events.StreamEnded)
    assert await client.saw(h2.events.ConnectionTerminated)
    assert client.server.key == hash(("127.0.0.1", 1))
    client.server.transport.abort()


async def test_retired_idle_connection_sends_goaway_at_once() -> None:
    client = WireClient(Timeouts())
    client.server.retire()
    assert await client.saw(h2.events.ConnectionTerminated)
    client.server.transport.abort()


async def test_second_shutdown_of_closing_connection_does_nothing() -> None:
    client = WireClient(Timeouts())
    client.server.shutdown()
    client.server.shutdown()
    await until(lambda: client.wire.lost)


async def test_http2_stream_whose_window_stays_closed_is_reset_and_others_continue() -> None:
    client = WireClient(Timeouts(send=0.1))
    client.store.append(A, b"x" * 300_000)
    slow = client.ask(f"{A}?offset=-1")
    cut = await client.saw(h2.events.StreamReset)
    assert cut.stream_id == slow
    assert client.wire.lost is False
    client.seen.clear()
    client.ask(f"{A}?offset=now")
    assert await client.saw(h2.events.StreamEnded)
    client.server.transport.abort()


async def test_http2_stream_counts_as_a_connection_until_its_response_is_sent() -> None:
    client = WireClient(Timeouts(send=0.3))
    client.store.append(A, b"x" * 60_000)
    client.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0})
    slow, stuck = (client.ask(f"{A}?offset=-1") for _ in range(2))
    await until(lambda: client.server.unsent == 120_000)
    assert client.admission._streams == 1  # the first stream counts as the connection
    client.h2.increment_flow_control_window(60_000, slow)
    client.flush()
    ended = await client.saw(h2.events.StreamEnded)
    assert ended.stream_id == slow
    assert client.server.unsent == 60_000
    cut = await client.saw(h2.events.StreamReset)
    assert cut.stream_id == stuck
    assert client.server.unsent == client.admission._streams == 0
    client.server.transport.abort()


async def test_connection_beyond_the_maximum_number_gets_503() -> None:
    admission = Admission(True, 1, limit=1024)
    assert admission.admit(0, 0, "127.0.0.1") is None
    client = WireClient(Timeouts(), admission)
    client.ask(A)
    head = await client.saw(h2.events.ResponseReceived)
    assert dict(head.headers)[b":status"] == b"503"
    await until(lambda: client.wire.lost)
    admission.release("127.0.0.1")
    assert len(admission._shares) == 0


async def test_path_that_is_not_ascii_returns_400() -> None:
    client = WireClient(Timeouts())
    client.h2.config.validate_outbound_headers = False
    client.ask("/caf\xe9")
    head = await client.saw(h2.events.ResponseReceived)
    assert dict(head.headers)[b":status"] == b"400"
    client.server.transport.abort()


def test_server_sends_goaway_before_the_parser_reaches_its_stream_limit() -> None:
    """zttp ends a connection at its 4,096th stream. Up to 128 more can arrive before the client has received the GOAWAY."""
    assert http2._MANY < http2._MOST < 4096 - 128


async def test_event_stream_continues_after_goaway(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http2, "_MANY", 10)
    monkeypatch.setattr(http2, "_MOST", 35)
    client = WireClient(Timeouts())
    client.ask(f"{A}?offset=-1&live=sse")
    with contextlib.suppress(h2.exceptions.ProtocolError):  # h2 refuses to send after a GOAWAY
        for _ in range(60):
            client.seen.clear()
            client.ask("/")
            await client.saw(h2.events.StreamEnded)
    (left,) = [each for each in client.seen if isinstance(each, h2.events.ConnectionTerminated)]
    assert left.error_code == h2.errors.ErrorCodes.NO_ERROR
    client.wire.received.clear()
    client.store.append(A, b"later")
    await until(lambda: b"data:later" in client.wire.received)
    client.server.transport.abort()


async def test_lost_http2_connection_no_longer_counts_toward_connection_limits() -> None:
    client = WireClient(Timeouts())
    for _ in range(5):
        client.ask(f"{A}?offset=-1&live=sse")
    await until(lambda: client.admission._shares.held("127.0.0.1") == 5)
    client.server.transport.abort()
    await until(lambda: len(client.admission._shares) == 0)
    assert client.admission._streams == 0


async def test_lost_connection_is_freed_without_the_garbage_collector() -> None:
    client = WireClient(Timeouts())
    client.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0})
    client.store.append(A, b"x" * 60_000)
    client.ask(f"{A}?offset=-1")
    client.ask(f"{A}?offset=-1&live=sse")
    await client.saw(h2.events.ResponseReceived)
    lost = weakref.ref(client.server)
    gc.disable()
    try:
        client.server.transport.abort()
        client.wire.connection = client.server = cast(Any, None)
        await until(lambda: lost() is None)
    finally:
        gc.enable()
