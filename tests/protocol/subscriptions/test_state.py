"""Tests of cursors, patterns and times in the states of all subscriptions."""

import pytest

from durable_streams_server.protocol.offsets import Offset
from durable_streams_server.protocol.subscriptions.changes import (
    CursorsMoved,
    Unsubscribed,
    Wake,
    WakeChanged,
)
from tests.protocol.subscriptions.examples import subscribed, subscriptions_with, watcher_ids
from tests.protocol.subscriptions.world import A, B
from tests.requests import NOW, SECOND


def test_cursor_that_moves_to_the_tail_is_removed() -> None:
    subscriptions = subscriptions_with(subscribed("s"), CursorsMoved("s", ((A, Offset(1, 2)),)))
    subscription = subscriptions.apply(CursorsMoved("s", ((A, None), (B, None))))
    assert subscription is not None
    assert subscription.due == {}


@pytest.mark.parametrize("root", ["", "/x", "/v1/stream"])
def test_pattern_matches_below_the_stream_root(root: str) -> None:
    subscriptions = subscriptions_with(subscribed("s", pattern="a/*"))
    assert watcher_ids(subscriptions, "/a/b") == []
    subscriptions.move(root)
    assert watcher_ids(subscriptions, f"{root}/a/b") == ["s"]
    assert watcher_ids(subscriptions, f"/other{root}/a/b") == []
    assert subscriptions.relative(f"{root}/a/b") == "a/b"


def test_reached_returns_the_time_of_a_wake_from_its_lease_or_retry() -> None:
    subscriptions = subscriptions_with(subscribed())
    subscription = subscriptions.get("s")
    assert subscription is not None
    lease = subscription.config.lease_ttl * 1000
    held = WakeChanged("s", 1, Wake("w", holder="one", lease_until=NOW + lease))
    assert subscriptions.reached(held) == NOW
    put_off = WakeChanged("s", 1, Wake("w", next_attempt=NOW + 72 * SECOND, attempts=9))
    assert subscriptions.reached(put_off) == NOW
    for silent in (WakeChanged("s", 1, None), WakeChanged("s", 1, Wake("w")), subscribed()):
        assert subscriptions.reached(silent) == 0


def test_subscriptions_are_counted_by_owner() -> None:
    subscriptions = subscriptions_with(
        subscribed("s", owner="one"),
        subscribed("t", owner="one"),
        subscribed("u", owner="two"),
        subscribed("v"),
    )
    assert subscriptions.owners.counts == {"one": 2, "two": 1}
    subscriptions.move("/other")
    assert subscriptions.owners.counts == {"one": 2, "two": 1}
    for id_ in "suv":
        subscriptions.apply(Unsubscribed(id_, 7))
    assert subscriptions.owners.counts == {"one": 1}


def test_subscription_that_replaces_another_is_counted_once() -> None:
    # A damaged log may lack the record that deleted the first one.
    subscriptions = subscriptions_with(subscribed("s", 7, "one"), subscribed("s", 8, "two"))
    assert subscriptions.owners.counts == {"two": 1}
    document = subscriptions.document("subscription/s")
    assert document is not None
    subscriptions.restore("subscription/s", document)
    assert subscriptions.owners.counts == {"two": 1}
