"""`StreamStore`: streams in memory, with a size limit and a clock."""

from datetime import UTC, datetime

import pytest

from durable_streams_server import CreateOptions, StorageFull, StreamStore
from tests.streams.engines import ManualClock


def test_streams_expire_by_ttl_and_by_deadline() -> None:
    clock = ManualClock()
    store = StreamStore(clock=clock)
    store.create("/a", options=CreateOptions(ttl_seconds=5))
    store.create(
        "/b", options=CreateOptions(expires_at=datetime(2025, 6, 15, 15, 6, 45, tzinfo=UTC))
    )
    clock.forward(4)
    store.read("/a")
    clock.forward(1)
    assert store.has("/a")
    assert not store.has("/b")
    clock.forward(4)
    assert not store.has("/a")


def test_full_store_refuses_appends_and_still_serves_reads() -> None:
    store = StreamStore(max_total_bytes=4)
    store.create("/a")
    store.append("/a", b"abcd")
    with pytest.raises(StorageFull):
        store.append("/a", b"e")
    assert store.read("/a").data == b"abcd"
