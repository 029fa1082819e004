"""Large pages count against the send budget until their clients have read them."""

from durable_streams_server import StreamStore
from durable_streams_server.http.limits.outgoing import GRACE, Outgoing
from durable_streams_server.http.native.lane import Lane
from tests.http.native.budgets import BIG, MIB, disconnect
from tests.http.socket_driver import Client, request, run_until_idle


async def test_clients_share_one_copy_of_a_large_page(
    running_lane: Lane, big_store: StreamStore
) -> None:
    big_store.append(BIG, b"x" * MIB)
    readers = [Client(running_lane) for _ in range(5)]
    for reader in readers:
        reader.stop_reading()
        reader.send(request("GET", BIG))
    await run_until_idle(running_lane)
    sending = running_lane.app.engine.sending
    assert sending.held == MIB
    assert len(running_lane.outgoing) == 5
    running_lane.app.engine.large._evict(3 * MIB)
    assert sending.held == MIB
    for reader in readers:
        reader.resume_reading()
    assert len(running_lane.outgoing) == 0
    assert sending.held == 0
    assert all(reader.answers("GET")[0].body == b"x" * MIB for reader in readers)
    await disconnect(running_lane, *readers)


async def test_read_beyond_budget_waits_until_slowest_client_is_cut(
    running_lane: Lane, big_store: StreamStore
) -> None:
    now = 0.0
    running_lane.outgoing = running_lane.app.outgoing = Outgoing(
        running_lane.app.engine.sending, running_lane.turns, lambda: now
    )
    for name in "wxyz":
        big_store.create(f"{BIG}/{name}", "application/octet-stream")
        big_store.append(f"{BIG}/{name}", b"x" * MIB)
    stalled = [Client(running_lane) for _ in range(3)]
    for reader, name in zip(stalled, "wxy", strict=True):
        reader.stop_reading()
        reader.send(request("GET", f"{BIG}/{name}"))
    await run_until_idle(running_lane)
    late = Client(running_lane).send(request("GET", f"{BIG}/z"))
    await run_until_idle(running_lane)
    assert late.wire.received == b""
    now = GRACE
    running_lane.outgoing.cut_slowest()
    await run_until_idle(running_lane)
    assert [reader.wire.aborted for reader in stalled] == [True, False, False]
    await run_until_idle(running_lane)
    assert late.answers("GET")[0].body == b"x" * MIB
    await disconnect(running_lane, late, *stalled)


async def test_event_stream_value_counts_against_budget_until_client_has_read_it(
    running_lane: Lane, big_store: StreamStore
) -> None:
    big_store.create("/v1/stream/json", "application/json")
    big_store.append("/v1/stream/json", b'"%b"' % (b"x" * MIB))
    running_lane.app.engine.large._evict(3 * MIB)
    reader = Client(running_lane)
    reader.stop_reading()
    reader.send(request("GET", "/v1/stream/json?offset=-1&live=sse"))
    await run_until_idle(running_lane)
    running_lane.app.engine.large._evict(3 * MIB)
    assert running_lane.app.engine.sending.held > MIB
    assert len(running_lane.outgoing) == 1
    reader.resume_reading()
    await run_until_idle(running_lane)
    assert len(running_lane.outgoing) == 0
    assert running_lane.app.engine.sending.held == 0
    assert b"x" * 10_000 in reader.read()
    await disconnect(running_lane, reader)
