"""`add_own_limits`: each limit of an application is shown beside its use."""

from pathlib import Path

import pytest

from durable_streams_server import (
    ClientLimits,
    FileBackedStreamStore,
    StreamStore,
    create_app,
)
from durable_streams_server.errors import TooManyRequests
from durable_streams_server.http.asgi.application import DurableStreamsApp
from durable_streams_server.http.limits.live_readers import LiveReaders
from durable_streams_server.http.limits.rates import MAX_RATED_CLIENTS, Rates
from durable_streams_server.http.observing.limit_table import LimitTable
from durable_streams_server.http.observing.own_limits import add_client_limits
from durable_streams_server.http.serving.server import Server
from durable_streams_server.protocol.subscriptions.owner_counts import OwnerCounts
from durable_streams_server.storage.files.limits import STANDARD
from durable_streams_server.storage.files.wal_sizes import MIN_SIZE
from tests.protocol.subscriptions.world import subscribe
from tests.requests import NOW

MIB = 1024 * 1024


def limits_of(app: DurableStreamsApp) -> dict[str, tuple[float, float]]:
    return {name: (limit(), used()) for name, limit, used in app.limits}


async def test_budgets_and_deliveries_are_shown_for_every_store() -> None:
    store = StreamStore()
    app = create_app(
        store=store,
        max_body=MIB,
        max_in_flight=2 * MIB,
        max_unsent=3 * MIB,
        limits=ClientLimits(max_subscriptions_per_token=7),
    )
    store.execute(subscribe("s", "token:me", 7), NOW)
    app.budget.take(5)
    app.engine.sending.held = 7
    found = limits_of(app)
    assert found["in_flight_bytes"] == (2 * MIB, 5)
    assert found["unsent_bytes"] == (3 * MIB, 7)
    assert found["deliveries"] == (512, 0)
    assert found["subscriptions"] == (100_000, 1)
    assert found["subscriptions_of_one_token"] == (7, 1)
    assert "wal_bytes" not in found


async def test_limits_of_the_file_store_are_shown_with_their_use(tmp_path: Path) -> None:
    store = FileBackedStreamStore(tmp_path / "data", wal_size=MIN_SIZE)
    app = create_app(store=store)
    app.begin()
    await app.streams.create("/a", "text/plain")
    await app.streams.append("/a", b"x" * 1000, producer_id="p", producer_epoch=0, producer_seq=0)
    found = limits_of(app)
    assert found["dirty_streams"][0] == STANDARD.max_dirty
    assert found["dirty_streams"][1] >= 1  # 2 while a checkpoint has captured the stream
    assert found["fresh_producers"] == (STANDARD.max_fresh_producers, 1)
    assert found["unflushed_bytes"][0] == STANDARD.max_unflushed
    assert 1000 <= found["unflushed_bytes"][1] <= 1200
    assert found["wal_bytes"][0] == MIN_SIZE
    assert 1000 < found["wal_bytes"][1] < MIN_SIZE
    await app.stop()
    store.close()


async def test_server_adds_its_connections() -> None:
    app = create_app()
    server = Server(app)
    most, used = limits_of(app)["connections"]
    assert (most, used) == (server._admission.max_connections, 0)
    server.server_state.connections.add(object())  # type: ignore[arg-type]  # only counted here
    server._admission.admit_stream(1, None)
    assert limits_of(app)["connections"][1] == 2


def test_limits_of_clients_are_shown_with_the_client_that_uses_most() -> None:
    table, readers = LimitTable(), LiveReaders(10, 3, 2)
    rates = Rates(1, None, lambda: 0)
    owners = OwnerCounts()
    for owner in ("token:x", "token:y", "token:x"):
        owners.add(owner)
    add_client_limits(table, readers, rates, owners, ClientLimits(max_subscriptions_per_token=5))
    for path, client in (("/a", "x"), ("/a", "y"), ("/a", "z"), ("/b", "x")):
        readers.take(path, client)
    with pytest.raises(TooManyRequests):
        readers.take("/a", "x")
    assert {name: (limit(), used()) for name, limit, used in table} == {
        "live_readers": (10, 4),
        "live_readers_of_one_stream": (3, 3),
        "live_readers_of_one_client": (2, 2),
        "rated_clients": (MAX_RATED_CLIENTS, 0),
        "subscriptions_of_one_token": (5, 2),
    }
    rates.appends_refused, rates.octets_refused = 5, 6
    assert table.refusals == [
        ("appends_per_second", 5),
        ("bytes_per_second", 6),
        ("live_readers", 1),
    ]
