"""The check of all connections for clients that read too little."""

from durable_streams_server import StreamStore
from durable_streams_server.http.native.lane import Lane
from durable_streams_server.http.native.patrol import Patrol
from tests.http.native.budgets import GET, KIB, A, disconnect
from tests.http.socket_driver import Client


async def test_slowest_clients_are_cut_when_small_responses_exceed_the_send_budget(
    running_lane: Lane, big_store: StreamStore
) -> None:
    big_store.append(A, b"x" * 60 * KIB)
    readers = [Client(running_lane) for _ in range(60)]
    for reader in readers:
        reader.stop_reading()
        reader.send(GET)
    running_lane.now += 1
    readers[0].connection._enter(
        readers[0].connection._phase
    )  # as if the client of this connection had read something
    patrol = Patrol(
        running_lane.app.engine.sending, [reader.connection for reader in readers], running_lane.now
    )
    assert not patrol.check_some()
    cut = [reader.wire.aborted for reader in readers]
    assert not cut[0]
    assert 5 < sum(cut) < 20
    await disconnect(running_lane, *readers)
