"""Requests, helpers and times that the tests of native connections share."""

from durable_streams_server import StreamStore
from durable_streams_server.http.limits.timeouts import Timeouts
from durable_streams_server.http.native.lane import Lane
from tests.http.socket_driver import (
    Client,
    chunks,
    request,
    run_turns,
)

A = "/v1/stream/a"
B = "/v1/stream/b"
BIG = "/v1/stream/big"
GET = request("GET")
SSE = request("GET", f"{A}?offset=-1&live=sse")
POLL = request("GET", f"{A}?offset=now&live=long-poll")
CHUNKED = ("Content-Type: text/plain", "Transfer-Encoding: chunked")
TIMES = Timeouts(idle=75, head=10, body=20, send=30, linger=2)


async def disconnect_all(lane: Lane) -> None:
    """Aborts every connection of a lane, and asserts that the lane holds nothing afterwards."""
    for connection in tuple(lane.connections):
        connection.transport.abort()
    await run_turns()
    assert not lane.connections
    assert len(lane.app.engine.tails) == 0
    assert lane.budget.held == 0


def advance(lane: Lane, seconds: float) -> None:
    """Advances the clock of a lane and checks its connections."""
    lane.now += seconds
    for connection in tuple(lane.connections):
        connection.check(lane.now)


def data_of(store: StreamStore) -> bytes:
    """Returns the content of the stream at `A`."""
    return store.read(A).data


def event_bytes(data: bytes) -> bytes:
    """Returns the body of a chunked response that has not ended."""
    _, _, rest = data.partition(b"\r\n\r\n")
    return b"".join(part for _, part in chunks(rest))


def assert_timed_out(lane: Lane, client: Client) -> None:
    """Asserts that a request was refused with 408 and released, and that its connection ends after the linger time."""
    (answer,) = client.answers("POST")
    assert (answer.status, answer.error["code"]) == (408, "REQUEST_TIMEOUT")
    assert answer.headers["connection"] == "close"
    assert lane.budget.held == 0
    client.send(b"more")
    assert client.is_ended
    assert not client.wire.lost
    advance(lane, 2)
    assert client.wire.lost
