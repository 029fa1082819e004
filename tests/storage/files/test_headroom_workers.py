"""Tests that the workers of subscriptions keep working on a full disk, because their records need little room."""

from durable_streams_server.protocol.commands import Delete
from durable_streams_server.protocol.offsets import parse
from durable_streams_server.protocol.subscriptions.commands import (
    Acknowledge,
    Claim,
    Release,
    Tend,
)
from durable_streams_server.protocol.subscriptions.outcomes import AckOutcome
from durable_streams_server.protocol.subscriptions.views import View
from tests.protocol.subscriptions.world import JSON, POOL, A, B, subscribe
from tests.requests import NOW, SECOND, append, create
from tests.storage.files.stores import open_store, run
from tests.storage.files.test_headroom import SMALL, fill, small_store


def test_pull_wake_workers_can_finish_their_work_on_full_disk() -> None:
    disk, store = small_store()
    run(store, *(create(path, JSON) for path in (POOL, A, B)), subscribe(lease_ttl_ms=1_000))
    run(store, append(A, b"1", JSON), append(B, b"1", JSON))
    fill(store)
    events = store.states[POOL].tail
    for now in (NOW, NOW + SECOND):
        (view,) = run(store, Claim("s", "w"), now=now)
        assert isinstance(view, View)
        run(store, Release(view.grant, view.generation, view.grant.wake_id), now=now)
    run(store, Claim("s", "w"), now=NOW + 2 * SECOND)
    run(store, Tend("s"), now=NOW + 4 * SECOND)  # the lease has run out
    (view,) = run(store, Claim("s", "w"), now=NOW + 4 * SECOND)
    assert isinstance(view, View)
    acks = tuple((each.path, parse(each.tail)) for each in view.streams[:1])
    ack = Acknowledge(view.grant, view.generation, view.grant.wake_id, acks, True)
    assert run(store, ack, now=NOW + 4 * SECOND) == [AckOutcome(next_wake=True)]
    assert store.states[POOL].tail == events  # there is no room for an event
    disk.lose_power()
    again = open_store(disk, **SMALL)
    subscription = again.subscriptions.get("s")
    assert subscription is not None
    assert list(subscription.due) == [B]
    run(again, Delete("/0"), Delete("/1"))
    again.run_checkpoint()
    run(again, Tend("s"), now=NOW + 9 * SECOND)
    assert again.states[POOL].tail > events  # now there is room for the event
