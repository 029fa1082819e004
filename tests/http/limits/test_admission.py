"""Decisions on new connections, and the log messages about refused ones."""

import asyncio
import sys
from typing import Any

import pytest
from uvicorn.server import ServerState

from durable_streams_server import create_app
from durable_streams_server.errors import StreamError
from durable_streams_server.http.limits.admission import (
    DEFAULT_MAX_CONNECTIONS,
    MAX_HELD,
    OTHERS,
    RESERVE,
    TO_BE_REFUSED,
    Admission,
    handle_limit,
    handle_of,
    most_connections,
)
from durable_streams_server.http.limits.refusals import HOLD
from durable_streams_server.http.limits.timeouts import Timeouts
from durable_streams_server.http.native.connection import connection_factory
from durable_streams_server.http.native.lane import Lane
from durable_streams_server.storage.files.logs import MAX_OPEN
from tests.http.asgi.http1_client import AsgiClient
from tests.http.limits.test_log_rate import Clock
from tests.http.socket_driver import Client, Wire, logged_warnings, request, run_turns, until
from tests.loop_clock import LoopClock


def test_admission_reserves_at_most_half_of_the_file_handles() -> None:
    assert RESERVE > 2 * MAX_OPEN
    assert most_connections(20_000, on_files=True) == 20_000 - RESERVE
    assert most_connections(20_000, on_files=False) == 20_000 - OTHERS
    for limit in range(3000):
        for on_files in (True, False):
            most = most_connections(limit, on_files)
            assert most >= 1
            assert most >= limit // 2
            assert limit - most >= min(OTHERS, limit // 2) or limit < 2


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such limits on Windows")
def test_handle_limit_returns_the_soft_limit_of_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 4096))
    assert handle_limit() == 256
    assert Admission().max_connections == 128
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
    assert Admission().max_connections == DEFAULT_MAX_CONNECTIONS
    assert Admission(True, 2**31).max_connections == 2**31


@pytest.mark.parametrize("given", [0, -1, 513])
def test_max_connections_that_leaves_no_file_handles_is_refused(given: int) -> None:
    with pytest.raises(ValueError, match="from 1 to 512"):
        Admission(True, given, limit=1024)
    assert Admission(True, 512, limit=1024).max_connections == 512


def code(refusal: StreamError | None) -> str | None:
    """Returns the error code of a refusal, or None."""
    return None if refusal is None else refusal.code


def test_default_connection_limit_is_20_000_unless_file_handles_are_fewer() -> None:
    assert Admission(True, limit=100_000).max_connections == DEFAULT_MAX_CONNECTIONS == 20_000
    assert Admission(True, limit=1024).max_connections == 512
    assert Admission(True, 50_000, limit=100_000).max_connections == 50_000


def test_connections_beyond_maximum_are_refused() -> None:
    admission = Admission(True, 3, limit=1024)
    assert admission.admit(2, 0, None) is None
    assert code(admission.admit(3, 0, None)) == "TOO_MANY_CONNECTIONS"


def test_connection_that_needs_a_reserved_file_handle_is_refused() -> None:
    admission = Admission(True, limit=1024)
    assert admission.admit(0, 1024 - OTHERS - 1, None) is None
    assert code(admission.admit(0, 1024 - OTHERS, None)) == "TOO_MANY_CONNECTIONS"


def test_refused_connections_are_counted_and_logged_once_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    admission = Admission(True, 3, limit=1024, clock=clock)
    for _ in range(1000):
        assert admission.admit(3, 0, None) is not None
    clock.now += 59
    assert admission.admit(3, 0, None) is not None
    (line,) = logged_warnings(caplog)
    assert "3 are open of 3 at most" in line
    assert "1024 file handles" in line
    clock.now += 1
    assert admission.admit(3, 0, None) is not None
    assert len(logged_warnings(caplog)) == 2
    assert logged_warnings(caplog)[1].endswith("; 1001 refused since this was last said")


def test_one_address_gets_half_of_the_connections_by_default() -> None:
    assert Admission(True, 10, limit=1024).per_address == 5
    assert Admission(True, 1, limit=1024).per_address == 1
    assert Admission(True, 10, limit=1024, per_address=10).per_address == 10
    with pytest.raises(ValueError, match="at least 1"):
        Admission(True, 10, limit=1024, per_address=0)


def test_connections_beyond_the_limit_of_their_address_are_refused() -> None:
    admission = Admission(True, 4, limit=1024)
    assert admission.admit(0, 0, "a") is None
    assert admission.admit(1, 0, "a") is None
    assert code(admission.admit(2, 0, "a")) == "TOO_MANY_CONNECTIONS_FROM_ADDRESS"
    assert admission.admit(2, 0, "b") is None
    admission.release("a")
    assert admission.admit(2, 0, "a") is None


def test_refused_connection_does_not_count_toward_the_limit_of_its_address() -> None:
    admission = Admission(True, 4, limit=1024, per_address=1)
    assert code(admission.admit(4, 0, "a")) == "TOO_MANY_CONNECTIONS"
    assert admission.admit(3, 0, "a") is None


def test_tls_handshakes_of_one_address_are_limited_until_released() -> None:
    admission = Admission(True, 100, limit=1024, per_address=1)
    for _ in range(1 + TO_BE_REFUSED):
        assert admission.admit_handshake(0, 0, "a")
    assert not admission.admit_handshake(0, 0, "a")
    assert admission.admit_handshake(0, 0, "b")
    admission.release_handshake("a")
    assert admission.admit(0, 0, "a") is None  # the handshake became a connection
    assert not admission.admit_handshake(0, 0, "a")


def test_address_beyond_its_connection_limit_is_logged_once_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    admission = Admission(True, 4, limit=1024, clock=clock, per_address=1)
    assert admission.admit(0, 0, "192.0.2.7") is None
    for _ in range(1000):
        assert admission.admit(0, 0, "192.0.2.7") is not None
    (line,) = logged_warnings(caplog)
    assert line.startswith(
        "connections from 192.0.2.7 are refused with 503: one address may have 1"
    )
    clock.now += 60
    assert admission.admit(0, 0, "192.0.2.7") is not None
    assert "1000 refused since" in logged_warnings(caplog)[1]


def test_refused_connections_are_held_once_they_come_too_fast() -> None:
    clock = Clock()
    admission = Admission(True, 3, limit=10_000, clock=clock)
    assert not any(admission.hold(9) for _ in range(64))
    assert [admission.hold(9) for _ in range(MAX_HELD + 1)] == [True] * MAX_HELD + [False]
    assert admission.held == MAX_HELD
    admission.end_hold()
    assert not admission.hold(9_500)  # the store needs the last file handles
    assert admission.hold(9)
    clock.now += 1
    assert not any(admission.hold(9) for _ in range(64))
    admission.end_hold()
    assert admission.hold(9)


# -- on a connection ---------------------------------------------------------


async def test_refused_connection_gets_503_and_is_closed_at_once() -> None:
    lane = Lane(create_app(), Timeouts(), Admission(True, 2, limit=1024, per_address=2))
    first, second = Client(lane), Client(lane)
    for tls in (False, True):
        third = Client(lane, tls=tls)
        (answer,) = third.answers("GET")
        assert (answer.status, answer.error["code"]) == (503, "TOO_MANY_CONNECTIONS")
        assert answer.headers["retry-after"] == "1"
        assert answer.headers["connection"] == "close"
        assert third.wire.lost
        await run_turns()
    (answer,) = first.send(request("HEAD")).answers("HEAD")
    assert answer.status == 404
    second.reset()
    await run_turns()
    (answer,) = Client(lane).send(request("HEAD")).answers("HEAD")
    assert answer.status == 404
    first.reset()


async def test_refused_connection_that_reads_nothing_is_cut() -> None:
    lane = Lane(create_app(), Timeouts(send=30), Admission(True, 1, limit=1024))
    client = Client(lane)
    wire = Wire(None, True)
    wire.reads = False
    wire.connection = connection_factory(lane)()
    wire.connection.connection_made(wire)
    assert not wire.lost
    lane.now += 30
    wire.connection.check(lane.now)
    assert wire.aborted
    client.reset()
    await run_turns()
    assert not lane.connections


@pytest.mark.parametrize("end", ["wait", "leave"])
@pytest.mark.parametrize("kind", ["native", "asgi"])
async def test_held_connection_gets_503_later_and_takes_no_place(
    kind: str, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients that connect again as soon as they are refused would take the time of all others."""
    clock = LoopClock(monkeypatch)
    admission = Admission(True, 1, limit=10_000)
    app, state = create_app(), ServerState()
    lane = Lane(app, Timeouts(), admission)

    def connect() -> Any:
        if kind == "native":
            return Client(lane).wire
        return AsgiClient(Timeouts(), state=state, app=app, admission=admission).wire

    first = connect()
    for _ in range(64):
        assert b" 503 " in connect().received
    held = connect()
    held.give(request("HEAD"))  # before the server has stopped to read
    await run_turns()
    held.give(b"more")
    await run_turns()
    assert (held.received, held.lost, admission.held) == (b"", False, 1)
    connections = lane.connections if kind == "native" else state.connections
    await until(lambda: len(connections) == 1)
    if end == "leave":
        held.lose()
        await clock.forward(HOLD)
        assert admission.held == 0
        assert held.received == b""
    else:
        await clock.forward(HOLD)
        assert held.lost
        assert b" 503 " in held.received
        assert b"TOO_MANY_CONNECTIONS" in held.received
    first.lose()
    await until(lambda: len(connections) == 0 and admission.held == 0)
    assert len(admission._shares) == 0


async def test_address_beyond_its_connection_limit_gets_503_but_others_are_served() -> None:
    lane = Lane(create_app(), Timeouts(), Admission(True, 4, limit=1024))
    kept = [Client(lane, peer=("192.0.2.7", number)) for number in range(2)]
    third = Client(lane, peer=("192.0.2.7", 3))
    (answer,) = third.answers("GET")
    assert (answer.status, answer.error["code"]) == (503, "TOO_MANY_CONNECTIONS_FROM_ADDRESS")
    assert answer.headers["retry-after"] == "1"
    assert answer.headers["connection"] == "close"
    assert third.wire.lost
    await run_turns()
    other = Client(lane, peer=("192.0.2.8", 1))
    (answer,) = other.send(request("HEAD")).answers("HEAD")
    assert answer.status == 404
    for each in (*kept, other):
        each.reset()
    await run_turns()
    assert len(lane.admission._shares) == 0


async def test_lost_connection_is_released_from_the_limit_only_once() -> None:
    lane = Lane(create_app(), Timeouts(), Admission(True, 100, limit=1024, per_address=1))
    for end in ("reset", "half_close", "abort", "nonsense"):
        client = Client(lane)
        assert client.read() == b""
        refused = Client(lane)
        assert b" 503 " in refused.read()
        if end == "nonsense":
            client.send(b"nonsense\r\n\r\n").half_close()
        elif end == "abort":
            client.connection.transport.abort()
        else:
            getattr(client, end)()
        await run_turns()
        client.connection.connection_lost(None)  # called a second time
    assert len(lane.admission._shares) == 0


async def test_unix_socket_clients_have_no_limit_per_address() -> None:
    lane = Lane(create_app(), Timeouts(), Admission(True, 4, limit=1024, per_address=1))
    clients = [Client(lane, peer="") for _ in range(4)]
    assert [client.read() for client in clients] == [b""] * 4
    for client in clients:
        client.reset()
    await run_turns()


def test_transport_without_a_socket_has_file_handle_0() -> None:
    transport = asyncio.Transport()
    assert handle_of(transport) == 0
