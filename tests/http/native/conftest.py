"""Stores and native lanes for the tests of this folder."""

from collections.abc import AsyncIterator

import pytest

from durable_streams_server import StreamStore, create_app
from durable_streams_server.http.limits.timeouts import Timeouts
from durable_streams_server.http.native.lane import Lane
from tests.http.native.budgets import IN_FLIGHT, MIB
from tests.http.native.connections import BIG, TIMES, A, disconnect_all
from tests.http.socket_driver import (
    HeldStore,
)


@pytest.fixture
async def store() -> StreamStore:
    """A store with an empty stream at `A`."""
    store = StreamStore()
    store.create(A, "text/plain")
    return store


@pytest.fixture
async def lane(store: StreamStore) -> AsyncIterator[Lane]:
    """A lane that serves `store`."""
    lane = Lane(create_app(store=store, long_poll_timeout=5), TIMES)
    yield lane
    await disconnect_all(lane)


@pytest.fixture
async def held_store() -> HeldStore:
    """A store with an empty stream at `A`, whose appends wait until the test releases them."""
    held_store = HeldStore()
    held_store.create(A, "text/plain")
    return held_store


@pytest.fixture
async def held_lane(held_store: HeldStore) -> AsyncIterator[Lane]:
    """A lane that serves `held_store`."""
    lane = Lane(create_app(store=held_store, long_poll_timeout=5), TIMES)
    yield lane
    await disconnect_all(lane)


@pytest.fixture
def big_store() -> StreamStore:
    """A store with an empty text stream at `A` and an empty binary stream at `BIG`."""
    store = StreamStore()
    store.create(A, "text/plain")
    store.create(BIG, "application/octet-stream")
    return store


@pytest.fixture
async def running_lane(big_store: StreamStore) -> AsyncIterator[Lane]:
    """A lane that serves `big_store`, and whose engine runs, so that large reads are scheduled."""
    app = create_app(store=big_store, max_body=8 * MIB, max_in_flight=IN_FLIGHT, max_unsent=3 * MIB)
    app._start()
    yield Lane(app, Timeouts(send=30))
    await app.stop()
