"""How many connections are taken, and what the log says of the others."""

import asyncio
import sys
from typing import Any

import pytest

from durable_streams_server import create_app
from durable_streams_server.http.admission import (
    OTHERS,
    RESERVE,
    AcceptErrors,
    Admission,
    handle_limit,
    handle_of,
    most_connections,
)
from durable_streams_server.http.lane import Lane
from durable_streams_server.http.native import protocol_of
from durable_streams_server.http.phase import Timeouts
from durable_streams_server.storage.files.logs import MAX_OPEN
from tests.http.socket_driver import Client, Wire, complaints, request, turn


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_handles_for_every_open_log_are_kept_back_but_never_more_than_half() -> None:
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
def test_limit_is_the_soft_one(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 4096))
    assert handle_limit() == 256
    assert Admission().most == 128
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
    assert Admission().most > 2**31


@pytest.mark.parametrize("given", [0, -1, 513])
def test_setting_that_leaves_no_handles_is_refused(given: int) -> None:
    with pytest.raises(ValueError, match="from 1 to 512"):
        Admission(True, given, limit=1024)
    assert Admission(True, 512, limit=1024).most == 512


def test_connections_past_the_most_are_refused() -> None:
    admission = Admission(True, 3, limit=1024)
    assert admission.admits(2, handle=0)
    assert not admission.admits(3, handle=0)


def test_last_handles_are_kept_back_whoever_holds_the_others() -> None:
    admission = Admission(True, limit=1024)
    assert admission.admits(0, handle=1024 - OTHERS - 1)
    assert not admission.admits(0, handle=1024 - OTHERS)


def test_log_has_one_line_a_minute_with_numbers(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    admission = Admission(True, 3, limit=1024, clock=clock)
    for _ in range(1000):
        assert not admission.admits(3, 0)
    clock.now += 59
    assert not admission.admits(3, 0)
    (line,) = complaints(caplog)
    assert "3 are open of 3 at most" in line
    assert "1024 file handles" in line
    clock.now += 1
    assert not admission.admits(3, 0)
    assert len(complaints(caplog)) == 2
    assert complaints(caplog)[1].endswith("; 1001 refused since this was last said")


async def test_accept_errors_are_one_line_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    handler = AcceptErrors(clock)
    context: dict[str, Any] = {
        "message": "socket.accept() out of system resource",
        "exception": OSError(24, "Too many open files"),
    }
    loop = asyncio.get_running_loop()
    for _ in range(1000):
        handler(loop, context)
    assert complaints(caplog) == ["new connections wait: [Errno 24] Too many open files"]
    clock.now += 60
    handler(loop, context)
    assert len(complaints(caplog)) == 2
    handler(loop, {"message": "something else"})
    assert complaints(caplog)[2] == "something else"


# -- on a connection ---------------------------------------------------------


async def test_refused_connection_is_told_why_and_closed_at_once() -> None:
    lane = Lane(create_app(), Timeouts(), Admission(True, 2, limit=1024))
    first, second = Client(lane), Client(lane)
    for tls in (False, True):
        third = Client(lane, tls=tls)
        (answer,) = third.answers("GET")
        assert (answer.status, answer.error["code"]) == (503, "TOO_MANY_CONNECTIONS")
        assert answer.headers["retry-after"] == "1"
        assert answer.headers["connection"] == "close"
        assert third.wire.lost
        await turn()
    (answer,) = first.send(request("HEAD")).answers("HEAD")
    assert answer.status == 404
    second.reset()
    await turn()
    (answer,) = Client(lane).send(request("HEAD")).answers("HEAD")
    assert answer.status == 404
    first.reset()


async def test_refused_connection_that_takes_nothing_is_cut() -> None:
    lane = Lane(create_app(), Timeouts(send=30), Admission(True, 1, limit=1024))
    client = Client(lane)
    wire = Wire(None, True)
    wire.reads = False
    wire.connection = protocol_of(lane)()
    wire.connection.connection_made(wire)
    assert not wire.lost
    lane.now += 30
    wire.connection.check(lane.now)
    assert wire.aborted
    client.reset()
    await turn()
    assert not lane.connections


def test_connection_without_a_socket_has_no_handle() -> None:
    transport = asyncio.Transport()
    assert handle_of(transport) == 0
