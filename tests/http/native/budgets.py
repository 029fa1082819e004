"""Sizes, requests and helpers for the tests that limit the memory and time which one client may use on a native lane."""

from durable_streams_server.http.native.lane import Lane
from tests.http.socket_driver import Client, request, run_until_idle, until

A = "/v1/stream/a"
BIG = "/v1/stream/big"
GET = request("GET", f"{A}?offset=-1")
SSE = request("GET", f"{BIG}?offset=-1&live=sse")
KIB = 1024
MIB = 1024 * 1024
IN_FLIGHT = 16 * MIB + 512 * KIB


async def disconnect(lane: Lane, *clients: Client) -> None:
    """Resets the connections of `clients`, and asserts that the lane has no connection and holds nothing afterwards."""
    for client in clients:
        client.reset()
    await until(lambda: not lane.connections)
    await run_until_idle(lane)
    assert lane.budget.held == 0
    assert lane.budget.sharing == 0
    assert len(lane.outgoing) == 0
    assert lane.app.engine.large.kept_bytes == lane.app.engine.sending.held
