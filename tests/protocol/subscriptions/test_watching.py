"""Tests of the index of watchers and its cache."""

import pytest

from durable_streams_server.protocol.subscriptions import watching
from durable_streams_server.protocol.subscriptions.changes import Relinked, Unsubscribed
from durable_streams_server.protocol.subscriptions.state import Subscriptions
from tests.protocol.subscriptions.examples import subscribed, subscriptions_with, watcher_ids
from tests.protocol.subscriptions.world import POOL, ROOT, A, B


def test_cached_watchers_are_updated_by_every_change() -> None:
    subscriptions = Subscriptions()
    assert watcher_ids(subscriptions, A) == []
    subscriptions.apply(subscribed("s"))
    assert watcher_ids(subscriptions, A) == ["s"]
    subscriptions.apply(subscribed("t", streams=["x"]))
    subscriptions.apply(Relinked("t", ("events/a",), ()))
    assert watcher_ids(subscriptions, A) == ["s", "t"]
    subscriptions.apply(Relinked("t", (), ("events/a",)))
    assert watcher_ids(subscriptions, A) == ["s"]
    subscriptions.apply(subscribed("u", streams=["x"], wake_stream="events/a"))
    assert watcher_ids(subscriptions, A) == []
    subscriptions.apply(Unsubscribed("u", 7))
    assert watcher_ids(subscriptions, A) == ["s"]
    subscriptions.apply(Unsubscribed("s", 7))
    assert watcher_ids(subscriptions, A) == []


def test_cache_of_watchers_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watching, "_REMEMBERED", 10)
    subscriptions = subscriptions_with(subscribed("s"))
    for number in range(35):
        assert watcher_ids(subscriptions, f"{ROOT}/events/{number}") == ["s"]
    assert len(subscriptions._watching._remembered) <= 10


def test_subscription_linked_twice_is_listed_once_as_watcher() -> None:
    subscriptions = subscriptions_with(subscribed("s", streams=["events/a"], pattern="events/*"))
    assert watcher_ids(subscriptions, A) == ["s"]


def test_pattern_never_matches_the_wake_stream_of_a_subscription() -> None:
    subscriptions = subscriptions_with(
        subscribed("s", pattern="**"),
        subscribed("t", pattern="wake/*", wake_stream="wake/other"),
        subscribed("u", streams=["wake/pool"], wake_stream="wake/other"),
    )
    assert watcher_ids(subscriptions, POOL) == ["u"]
    assert watcher_ids(subscriptions, f"{ROOT}/wake/other") == []
    assert watcher_ids(subscriptions, f"{ROOT}/wake/third") == ["s", "t"]
    every = [subscriptions.get(id_) for id_ in "stu"]
    for path in (POOL, f"{ROOT}/wake/other", f"{ROOT}/wake/third"):
        found = [each.id for each in every if each and subscriptions.matches(each, path)]
        assert found == [id_ for id_ in watcher_ids(subscriptions, path) if id_ != "u"]


def test_subscriptions_can_share_a_wake_stream() -> None:
    subscriptions = subscriptions_with(
        subscribed("s"), subscribed("t"), subscribed("u", pattern="**")
    )
    assert [each.id for each in subscriptions.announcing(POOL)] == ["s", "t", "u"]
    for id_ in "stu":
        assert watcher_ids(subscriptions, POOL) == []
        subscriptions.apply(Unsubscribed(id_, 7))
    assert subscriptions.announcing(POOL) == []


def test_path_that_only_begins_like_the_stream_root_is_outside() -> None:
    subscriptions = subscriptions_with(subscribed("s", pattern="**"))
    assert watcher_ids(subscriptions, "/v1/streams/a") == []
    assert watcher_ids(subscriptions, "/v1/stream") == []


def test_cache_entry_does_not_grow_with_the_number_of_watchers() -> None:
    subscriptions = subscriptions_with(
        *(subscribed(f"s{number}", pattern="events/*") for number in range(500))
    )
    watch = subscriptions.watch(A)
    assert (len(watch), len(watch._groups)) == (500, 1)
    assert watch._groups[0] is subscriptions.watch(B)._groups[0]
