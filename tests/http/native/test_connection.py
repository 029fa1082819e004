"""Faults while a native connection handles an event."""

from collections.abc import Callable
from typing import Any

import pytest

from durable_streams_server import StreamStore
from durable_streams_server.http import wire
from durable_streams_server.http.browser import Browser
from durable_streams_server.http.handler import Handler
from durable_streams_server.http.limits.admission import Admission
from durable_streams_server.http.limits.budget import ReceiveBudget
from durable_streams_server.http.native.lane import Lane
from durable_streams_server.http.native.parser import Parser
from durable_streams_server.storage.ticket import Abandoned, Ticket
from durable_streams_server.streams.engine import Engine
from durable_streams_server.streams.event_stream import EventStream
from tests.http.native.connections import CHUNKED, GET, POLL, SSE, A, advance, disconnect_all
from tests.http.socket_driver import (
    Client,
    HeldStore,
    Wire,
    logged_warnings,
    post,
    request,
    run_turns,
)


def _failed() -> Any:
    return Ticket.failed(Abandoned(OSError("no disk")))


class Fault(Exception):
    """An unexpected exception."""


UNDOING = (EventStream.close, Ticket.cancel)


def failing(times: int, real: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function that calls `real`, but raises `Fault` in call number `times`.

    The functions in `UNDOING` do their work before the fault, because nothing could do it later.
    """
    left = times

    def call(*given: Any, **named: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0:
            if real in UNDOING:
                real(*given)
            raise Fault
        return real(*given, **named)

    return call


#: Methods that a connection calls and that might raise. The keys name the test cases.
FAULTS: dict[str, tuple[Any, str]] = {
    "handle": (Handler, "handle"),
    "refuse": (Handler, "refuse"),
    "finish": (Browser, "finish"),
    "budget": (ReceiveBudget, "take"),
    "feed": (Parser, "feed"),
    "head": (wire, "head"),
    "chunk": (Lane, "chunk"),
    "pull": (EventStream, "pull"),
    "close events": (EventStream, "close"),
    "farewell": (EventStream, "farewell"),
    "append": (Engine, "append"),
    "cancel": (Ticket, "cancel"),
    "write": (Wire, "write"),
    "write_eof": (Wire, "write_eof"),
    "pause_reading": (Wire, "pause_reading"),
    "resume_reading": (Wire, "resume_reading"),
    "buffer": (Wire, "get_write_buffer_size"),
    "limits": (Wire, "set_write_buffer_limits"),
    "peer": (Wire, "get_extra_info"),
    "admission": (Admission, "admit"),
}


async def test_fault_in_handler_returns_500_without_details(
    lane: Lane, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(lane.app.engine, "append", fail)
    client = Client(lane).send(post() + GET)
    broken, read = client.answers("POST", "GET")
    assert (broken.status, read.status) == (500, 200)
    assert b"secret" not in broken.body
    assert logged_warnings(caplog) == ["a request failed"]


@pytest.mark.parametrize(("part", "closes"), [("news", False), ("pull", True)])
async def test_failed_event_stream_aborts_its_connection(
    lane: Lane,
    store: StreamStore,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    part: str,
    closes: bool,
) -> None:
    client = Client(lane).send(SSE)

    def fail(_: Any) -> None:
        raise RuntimeError("no page")

    monkeypatch.setattr(EventStream, part, fail)
    store.append(A, b"x", close=closes)
    await run_turns()
    assert client.wire.aborted
    assert logged_warnings(caplog) == ["a connection failed"]


async def test_append_with_unknown_outcome_gets_no_response(
    held_lane: Lane, held_store: HeldStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client(held_lane).send(post(b"1") + GET)
    monkeypatch.setattr(StreamStore, "execute", lambda *_: _failed())
    held_store.release_append()
    assert client.read() == b""
    assert client.wire.aborted


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("name", FAULTS)
async def test_fault_ends_only_its_connection_and_releases_its_resources(
    held_lane: Lane,
    held_store: HeldStore,
    name: str,
    number: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """After a fault within a conversation, the client is answered or cut, and the server answers the next client."""
    held_store.holds = False
    where, method = FAULTS[name]
    conversations = [
        [post(b"1"), GET, request("HEAD"), post(b"2", "Connection: close")],
        [request("POST", A, *CHUNKED), b"3\r\nabc\r\n", b"0\r\n\r\n", b"nonsense\r\n\r\n"],
        [post(b"1") + POLL + GET * 3, GET, post()[:-1], b"x"],
        [SSE + GET, GET, b""],
        [POLL, b""],
        [post(b"abc", "Expect: 100-continue")[:-3], b"abc", GET[:9]],
    ]
    for pieces_of_it in conversations:
        with monkeypatch.context() as patch:
            patch.setattr(where, method, failing(number, getattr(where, method)))
            client = Client(held_lane)
            client.stop_reading()
            for piece in pieces_of_it:
                if not client.wire.lost:
                    client.wire.give(piece)
                held_store.append(A, b"news")
            client.resume_reading()
            await run_turns()
            if not client.wire.lost and not held_lane.app.engine.tails:
                advance(held_lane, 75)  # no live read is open, so the connection times out
                advance(held_lane, 2)
            assert client.wire.lost or len(held_lane.app.engine.tails) == 1
            client.reset()
            await run_turns()
        assert not held_lane.connections
        assert held_lane.budget.held == 0
        assert len(held_lane.app.engine.tails) == 0
        assert len(logged_warnings(caplog)) <= 1
        caplog.clear()
        (answer,) = Client(held_lane).send(request("HEAD", A, "Connection: close")).answers("HEAD")
        assert answer.status == 200
        await disconnect_all(held_lane)
