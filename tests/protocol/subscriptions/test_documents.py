"""Tests of the documents from which a store restores subscriptions and keys."""

import msgspec

from durable_streams_server.protocol.offsets import Offset
from durable_streams_server.protocol.subscriptions.changes import (
    CursorsMoved,
    KeysKept,
    Relinked,
    SubscriptionChange,
    Unsubscribed,
    Wake,
    WakeChanged,
)
from durable_streams_server.protocol.subscriptions.documents import document_name
from durable_streams_server.protocol.subscriptions.state import Subscriptions
from durable_streams_server.protocol.subscriptions.subscription import Subscription
from tests.protocol.subscriptions.examples import KEY, subscribed, subscriptions_with, watcher_ids
from tests.protocol.subscriptions.world import POOL, ROOT, A, B
from tests.requests import NOW


def fields(subscription: Subscription) -> dict[str, object]:
    return {name: getattr(subscription, name) for name in Subscription.__slots__}


def test_documents_restore_subscriptions_and_keys() -> None:
    first = subscriptions_with(
        subscribed("s", 7, streams=["events/a", "x"], pattern="events/*", description="d"),
        Relinked("s", ("events/b",), ("events/a",)),
        CursorsMoved("s", ((A, Offset(5, 10)), (B, Offset(6, 0)))),
        WakeChanged("s", 3, Wake("w", "holder", 1, None, 2)),
        subscribed("t", 8, "token:t", type="webhook", pattern="**"),
        WakeChanged("t", 1, Wake("v", None, None, 9, 1)),
        KeysKept((KEY,)),
    )
    second = Subscriptions()
    for name in ("subscription/s", "subscription/t", "keys"):
        document = first.document(name)
        assert document is not None
        second.restore(name, document)
    assert second.keys == (KEY,)
    for id_ in "st":
        one, other = first.get(id_), second.get(id_)
        assert one is not None
        assert other is not None
        assert fields(one) == fields(other)
        assert one.config.digest == other.config.digest
    for path in (A, B, f"{ROOT}/x", POOL, f"{ROOT}/y"):
        assert watcher_ids(second, path) == watcher_ids(first, path)
    assert [each.id for each in second.announcing(POOL)] == ["s"]
    assert second.owners.counts == first.owners.counts == {"token:t": 1}
    second.apply(Unsubscribed("s", 7))  # this removes the restored links from the index
    second.apply(Unsubscribed("t", 8))
    assert watcher_ids(second, B) == []
    assert second.owners.counts == {}
    assert len(second) == 0


def test_document_name_returns_the_document_that_each_change_alters() -> None:
    changes: dict[SubscriptionChange, str] = {
        subscribed("s"): "subscription/s",
        Unsubscribed("s", 1): "subscription/s",
        Relinked("keys", (), ()): "subscription/keys",
        CursorsMoved("s", ()): "subscription/s",
        WakeChanged("s", 1, None): "subscription/s",
        KeysKept(()): "keys",
    }
    assert {change: document_name(change) for change in changes} == changes


def test_deleted_subscription_has_no_document() -> None:
    subscriptions = subscriptions_with(subscribed("s"), Unsubscribed("s", 7))
    assert subscriptions.document("subscription/s") is None
    assert subscriptions.get("s") is None


def test_document_of_an_earlier_version_is_decoded() -> None:
    config = ["pull-wake", None, [A], None, POOL, 1000, None]
    wake = ["w_7_3", "holder", 1, None, 2]
    old = ["s", 7, config, NOW, [A, B], {A: [5, 10]}, 3, wake]
    subscriptions = Subscriptions()
    subscriptions.restore("subscription/s", msgspec.msgpack.encode(old))
    subscription = subscriptions.get("s")
    assert subscription is not None
    assert list(subscription.links) == ["events/a", "events/b"]
    assert (subscription.due, subscription.taken) == ({A: Offset(5, 10)}, {})
    assert subscription.owner is None
    assert subscription.wake == Wake("w_7_3", "holder", 1, None, 2)
