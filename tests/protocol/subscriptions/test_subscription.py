"""Tests of a subscription's links and cursors when the stream root changes."""

import msgspec
import pytest

from durable_streams_server.protocol.offsets import Offset
from durable_streams_server.protocol.subscriptions.changes import CursorsMoved, Relinked, Subscribed
from durable_streams_server.protocol.subscriptions.state import Subscriptions
from durable_streams_server.protocol.subscriptions.subscription import Subscription
from tests.protocol.subscriptions.examples import subscribed, subscriptions_with, watcher_ids
from tests.protocol.subscriptions.world import ROOT, A, subscribe
from tests.requests import NOW


def moved(subscriptions: Subscriptions, root: str) -> Subscription:
    subscriptions.move(root)
    subscription = subscriptions.get("s")
    assert subscription is not None
    return subscription


def linked() -> Subscriptions:
    return subscriptions_with(
        subscribed("s", pattern="**", streams=["x", "y"]),
        CursorsMoved("s", ((A, Offset(5, 10)), (f"{ROOT}/x", Offset(6, 0)))),
    )


def test_links_are_relative_to_the_stream_root_when_it_changes() -> None:
    subscriptions = linked()
    subscription = moved(subscriptions, "/other")
    assert list(subscription.streams) == ["/other/x", "/other/y"]
    assert subscription.wake_stream == "/other/wake/pool"
    assert watcher_ids(subscriptions, "/other/x") == ["s"]
    assert watcher_ids(subscriptions, f"{ROOT}/x") == []
    assert [each.id for each in subscriptions.announcing("/other/wake/pool")] == ["s"]


def test_cursors_outside_the_stream_root_return_with_their_root() -> None:
    subscriptions = linked()
    assert moved(subscriptions, "/other").due == {}
    kept = subscriptions.document("subscription/s")
    assert kept is not None
    again = Subscriptions("/other")
    again.restore("subscription/s", kept)
    back = moved(again, ROOT)
    assert back.due == {A: Offset(5, 10), f"{ROOT}/x": Offset(6, 0)}
    assert back.aside == {}


def test_replayed_change_moves_a_cursor_outside_the_stream_root() -> None:
    subscriptions = linked()
    subscriptions.move("/other")
    subscriptions.apply(CursorsMoved("s", ((A, None),)))
    assert moved(subscriptions, ROOT).due == {f"{ROOT}/x": Offset(6, 0)}


@pytest.mark.parametrize("root", ["", "/streams", ROOT])
def test_absolute_paths_of_an_earlier_version_become_relative(root: str) -> None:
    config = subscribe("s", streams=["x", "y"]).config
    whole = msgspec.structs.replace(
        config, streams=(f"{root}/x", f"{root}/y"), wake_stream=f"{root}/wake/pool"
    )
    subscriptions = subscriptions_with(
        Subscribed("s", 7, whole, NOW), Relinked("s", (f"{root}/z",), ())
    )
    # Replays a record of this version while the stream root is not known yet.
    subscriptions.apply(Relinked("s", (), ("x",)))
    subscription = moved(subscriptions, root)
    assert list(subscription.links) == ["y", "z"]
    assert list(subscription.streams) == [f"{root}/y", f"{root}/z"]
    assert subscription.wake_stream == f"{root}/wake/pool"
    assert subscription.config.digest == config.digest
