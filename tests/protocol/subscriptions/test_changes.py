"""Tests of the encoding of subscription changes, and of the failure reason of a wake."""

import msgspec
import pytest

from durable_streams_server.protocol.offsets import Offset
from durable_streams_server.protocol.subscriptions.changes import (
    CursorsMoved,
    KeysKept,
    Missed,
    News,
    Relinked,
    Subscribed,
    Unsubscribed,
    Wake,
    WakeChanged,
)
from tests.protocol.subscriptions.examples import KEY, subscribed, subscriptions_with
from tests.protocol.subscriptions.world import ROOT
from tests.requests import NOW


@pytest.mark.parametrize(
    ("wake", "problem"),
    [
        (Wake("w", next_attempt=1), None),
        (Wake("w", next_attempt=1, attempts=1), "refused"),  # a wake of an earlier version
        (Wake("w", next_attempt=1, attempts=1, reason="unreachable"), "unreachable"),
    ],
)
def test_problem_of_a_wake_is_the_reason_of_its_failure(wake: Wake, problem: str | None) -> None:
    assert wake.problem == problem


def test_subscription_changes_and_documents_keep_their_encoding() -> None:
    """Records and documents of earlier versions must stay readable, so new fields may be added only at the end."""
    subscriptions = subscriptions_with(subscribed("s", 7, pattern="p", lease_ttl_ms=1000))
    raw = subscriptions.document("subscription/s")
    assert raw is not None
    config: list[object] = ["pull-wake", "p", [], None, "wake/pool", 1000, None]
    assert msgspec.msgpack.decode(raw) == ["s", 7, config, NOW, [], {}, 0, None, 0, {}, {}, None]
    shapes = {
        subscribed("s", 7, "me", pattern="p", lease_ttl_ms=1000): [6, "s", 7, config, NOW, "me"],
        Unsubscribed("s", 7): [7, "s", 7],
        Relinked("s", ("a",), ("b",)): [8, "s", ["a"], ["b"]],
        CursorsMoved("s", (("/a", Offset(1, 2)),)): [9, "s", [["/a", [1, 2]]], None],
        WakeChanged("s", 2, Wake("w", "h", 3, 4, 5)): [
            *(10, "s", 2),
            ["w", "h", 3, 4, 5, 0, 0, 0, False, None, None],
            0,
        ],
        News("/a", 3, Offset(1, 2), 4): [12, "/a", 3, [1, 2], 4],
        Missed("s", 5, 6, ROOT): [14, "s", 5, 6, ROOT],
        KeysKept((KEY,)): [11, [["kid", b"s" * 32, b"t" * 32, NOW, NOW + 1]]],
    }
    for change, shape in shapes.items():
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(change)) == shape


def test_record_of_an_earlier_version_has_no_owner() -> None:
    config: list[object] = ["pull-wake", "events/*", [], None, "wake/pool", 30_000, None]
    old = msgspec.msgpack.encode([6, "s", 7, config, NOW])
    assert msgspec.msgpack.decode(old, type=Subscribed) == subscribed("s", 7)
    assert subscribed("s", 7).owner is None
