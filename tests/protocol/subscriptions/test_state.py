"""What is known of subscriptions follows from their changes, and comes back from their documents."""

import msgspec
import pytest

from durable_streams_server.protocol.offsets import Offset
from durable_streams_server.protocol.signing import Key
from durable_streams_server.protocol.subscriptions import watching as module
from durable_streams_server.protocol.subscriptions.changes import (
    CursorsMoved,
    KeysKept,
    Missed,
    News,
    Relinked,
    Subscribed,
    SubscriptionChange,
    Unsubscribed,
    Wake,
    WakeChanged,
)
from durable_streams_server.protocol.subscriptions.state import Subscription, Subscriptions
from tests.protocol.subscriptions.world import POOL, ROOT, A, B, subscribe
from tests.requests import NOW, SECOND

KEY = Key("kid", b"s" * 32, b"t" * 32, NOW, NOW + 1)


def subscribed(id_: str = "s", incarnation: int = 7, **fields: object) -> Subscribed:
    return Subscribed(id_, incarnation, subscribe(id_, **fields).config, NOW)


def made(*changes: SubscriptionChange) -> Subscriptions:
    subscriptions = Subscriptions()
    for change in changes:
        subscriptions.apply(change)
    return subscriptions


def watching(subscriptions: Subscriptions, path: str) -> list[str]:
    return sorted(subscription.id for subscription in subscriptions.watchers(path))


def parts(subscription: Subscription) -> dict[str, object]:
    return {name: getattr(subscription, name) for name in Subscription.__slots__}


def test_a_document_gives_back_all_that_is_known() -> None:
    first = made(
        subscribed("s", 7, streams=["events/a", "x"], pattern="events/*", description="d"),
        Relinked("s", ("events/b",), ("events/a",)),
        CursorsMoved("s", ((A, Offset(5, 10)), (B, Offset(6, 0)))),
        WakeChanged("s", 3, Wake("w", "holder", 1, None, 2)),
        subscribed("t", 8, type="webhook", pattern="**"),
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
        assert parts(one) == parts(other)
        assert one.config.digest == other.config.digest
    for path in (A, B, f"{ROOT}/x", POOL, f"{ROOT}/y"):
        assert watching(second, path) == watching(first, path)
    assert [each.id for each in second.announcing(POOL)] == ["s"]
    second.apply(Unsubscribed("s", 7))  # its links are indexed as they were
    second.apply(Unsubscribed("t", 8))
    assert watching(second, B) == []
    assert len(second) == 0


def test_each_change_names_the_document_that_it_alters() -> None:
    subscriptions = made(subscribed("s"))
    changes: dict[SubscriptionChange, str] = {
        subscribed("s"): "subscription/s",
        Unsubscribed("s", 1): "subscription/s",
        Relinked("keys", (), ()): "subscription/keys",
        CursorsMoved("s", ()): "subscription/s",
        WakeChanged("s", 1, None): "subscription/s",
        KeysKept(()): "keys",
    }
    assert {change: subscriptions.document_of(change) for change in changes} == changes


def test_what_is_gone_has_no_document() -> None:
    subscriptions = made(subscribed("s"), Unsubscribed("s", 7))
    assert subscriptions.document("subscription/s") is None
    assert subscriptions.get("s") is None


def test_cursors_at_the_tail_are_not_kept() -> None:
    subscriptions = made(subscribed("s"), CursorsMoved("s", ((A, Offset(1, 2)),)))
    subscription = subscriptions.apply(CursorsMoved("s", ((A, None), (B, None))))
    assert subscription is not None
    assert subscription.due == {}


def test_the_remembered_watchers_follow_every_change() -> None:
    subscriptions = Subscriptions()
    assert watching(subscriptions, A) == []
    subscriptions.apply(subscribed("s"))
    assert watching(subscriptions, A) == ["s"]
    subscriptions.apply(subscribed("t", streams=["x"]))
    subscriptions.apply(Relinked("t", ("events/a",), ()))
    assert watching(subscriptions, A) == ["s", "t"]
    subscriptions.apply(Relinked("t", (), ("events/a",)))
    assert watching(subscriptions, A) == ["s"]
    subscriptions.apply(subscribed("u", streams=["x"], wake_stream="events/a"))
    assert watching(subscriptions, A) == []
    subscriptions.apply(Unsubscribed("u", 7))
    assert watching(subscriptions, A) == ["s"]
    subscriptions.apply(Unsubscribed("s", 7))
    assert watching(subscriptions, A) == []


def test_watchers_are_remembered_for_a_bounded_number_of_paths(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_REMEMBERED", 10)
    subscriptions = made(subscribed("s"))
    for number in range(35):
        assert watching(subscriptions, f"{ROOT}/events/{number}") == ["s"]
    assert len(subscriptions._watching._remembered) <= 10


def test_who_is_linked_twice_watches_once() -> None:
    subscriptions = made(subscribed("s", streams=["events/a"], pattern="events/*"))
    assert watching(subscriptions, A) == ["s"]


def test_wake_streams_are_matched_by_no_pattern() -> None:
    subscriptions = made(
        subscribed("s", pattern="**"),
        subscribed("t", pattern="wake/*", wake_stream="wake/other"),
        subscribed("u", streams=["wake/pool"], wake_stream="wake/other"),
    )
    assert watching(subscriptions, POOL) == ["u"]
    assert watching(subscriptions, f"{ROOT}/wake/other") == []
    assert watching(subscriptions, f"{ROOT}/wake/third") == ["s", "t"]
    every = [subscriptions.get(id_) for id_ in "stu"]
    for path in (POOL, f"{ROOT}/wake/other", f"{ROOT}/wake/third"):
        found = [each.id for each in every if each and subscriptions.matches(each, path)]
        assert found == [id_ for id_ in watching(subscriptions, path) if id_ != "u"]


def test_two_may_share_a_wake_stream() -> None:
    subscriptions = made(subscribed("s"), subscribed("t"), subscribed("u", pattern="**"))
    assert [each.id for each in subscriptions.announcing(POOL)] == ["s", "t", "u"]
    for id_ in "stu":
        assert watching(subscriptions, POOL) == []
        subscriptions.apply(Unsubscribed(id_, 7))
    assert subscriptions.announcing(POOL) == []


@pytest.mark.parametrize("root", ["", "/x", "/v1/stream"])
def test_patterns_match_below_the_stream_root(root: str) -> None:
    subscriptions = made(subscribed("s", pattern="a/*"))
    assert watching(subscriptions, "/a/b") == []
    subscriptions.move(root)
    assert watching(subscriptions, f"{root}/a/b") == ["s"]
    assert watching(subscriptions, f"/other{root}/a/b") == []
    assert subscriptions.relative(f"{root}/a/b") == "a/b"


def test_a_path_that_only_begins_like_the_root_is_outside() -> None:
    subscriptions = made(subscribed("s", pattern="**"))
    assert watching(subscriptions, "/v1/streams/a") == []
    assert watching(subscriptions, "/v1/stream") == []


@pytest.mark.parametrize(
    ("wake", "problem"),
    [
        (Wake("w", next_attempt=1), None),
        (Wake("w", next_attempt=1, attempts=1), "refused"),  # of an earlier version
        (Wake("w", next_attempt=1, attempts=1, reason="unreachable"), "unreachable"),
    ],
)
def test_wake_says_why_its_subscription_has_failed(wake: Wake, problem: str | None) -> None:
    assert wake.problem == problem


def test_changes_are_kept_in_one_shape_for_good() -> None:
    """Records and documents of earlier versions are read back: fields may be added at the end and nowhere else."""
    subscriptions = made(subscribed("s", 7, pattern="p", lease_ttl_ms=1000))
    raw = subscriptions.document("subscription/s")
    assert raw is not None
    config: list[object] = ["pull-wake", "p", [], None, "wake/pool", 1000, None]
    assert msgspec.msgpack.decode(raw) == ["s", 7, config, NOW, [], {}, 0, None, 0, {}, {}]
    shapes = {
        subscribed("s", 7, pattern="p", lease_ttl_ms=1000): [6, "s", 7, config, NOW],
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


def test_wake_tells_a_time_that_had_been_reached() -> None:
    subscriptions = made(subscribed())
    subscription = subscriptions.get("s")
    assert subscription is not None
    lease = subscription.config.lease_ttl * 1000
    held = WakeChanged("s", 1, Wake("w", holder="one", lease_until=NOW + lease))
    assert subscriptions.reached(held) == NOW
    put_off = WakeChanged("s", 1, Wake("w", next_attempt=NOW + 72 * SECOND, attempts=9))
    assert subscriptions.reached(put_off) == NOW
    for silent in (WakeChanged("s", 1, None), WakeChanged("s", 1, Wake("w")), subscribed()):
        assert subscriptions.reached(silent) == 0


# -- the stream root ----------------------------------------------------------


def moved(subscriptions: Subscriptions, root: str) -> Subscription:
    subscriptions.move(root)
    subscription = subscriptions.get("s")
    assert subscription is not None
    return subscription


def linked() -> Subscriptions:
    return made(
        subscribed("s", pattern="**", streams=["x", "y"]),
        CursorsMoved("s", ((A, Offset(5, 10)), (f"{ROOT}/x", Offset(6, 0)))),
    )


def test_links_are_below_whatever_root_the_server_has() -> None:
    subscriptions = linked()
    subscription = moved(subscriptions, "/other")
    assert list(subscription.streams) == ["/other/x", "/other/y"]
    assert subscription.wake_stream == "/other/wake/pool"
    assert watching(subscriptions, "/other/x") == ["s"]
    assert watching(subscriptions, f"{ROOT}/x") == []
    assert [each.id for each in subscriptions.announcing("/other/wake/pool")] == ["s"]


def test_cursors_of_another_root_are_set_aside_until_it_comes_back() -> None:
    subscriptions = linked()
    assert moved(subscriptions, "/other").due == {}
    kept = subscriptions.document("subscription/s")
    assert kept is not None
    again = Subscriptions("/other")
    again.restore("subscription/s", kept)
    back = moved(again, ROOT)
    assert back.due == {A: Offset(5, 10), f"{ROOT}/x": Offset(6, 0)}
    assert back.aside == {}


def test_replay_finds_a_cursor_whatever_root_is_known_yet() -> None:
    subscriptions = linked()
    subscriptions.move("/other")
    subscriptions.apply(CursorsMoved("s", ((A, None),)))
    assert moved(subscriptions, ROOT).due == {f"{ROOT}/x": Offset(6, 0)}


@pytest.mark.parametrize("root", ["", "/streams", ROOT])
def test_whole_paths_of_an_earlier_version_become_relative(root: str) -> None:
    config = subscribe("s", streams=["x", "y"]).config
    whole = msgspec.structs.replace(
        config, streams=(f"{root}/x", f"{root}/y"), wake_stream=f"{root}/wake/pool"
    )
    subscriptions = made(Subscribed("s", 7, whole, NOW), Relinked("s", (f"{root}/z",), ()))
    subscriptions.apply(Relinked("s", (), ("x",)))  # of this version, before the root is known
    subscription = moved(subscriptions, root)
    assert list(subscription.links) == ["y", "z"]
    assert list(subscription.streams) == [f"{root}/y", f"{root}/z"]
    assert subscription.wake_stream == f"{root}/wake/pool"
    assert subscription.config.digest == config.digest


def test_document_of_an_earlier_version_is_read_back() -> None:
    config = ["pull-wake", None, [A], None, POOL, 1000, None]
    wake = ["w_7_3", "holder", 1, None, 2]
    old = ["s", 7, config, NOW, [A, B], {A: [5, 10]}, 3, wake]
    subscriptions = Subscriptions()
    subscriptions.restore("subscription/s", msgspec.msgpack.encode(old))
    subscription = subscriptions.get("s")
    assert subscription is not None
    assert list(subscription.links) == ["events/a", "events/b"]
    assert (subscription.due, subscription.taken) == ({A: Offset(5, 10)}, {})
    assert subscription.wake == Wake("w_7_3", "holder", 1, None, 2)


# -- the index of watchers ----------------------------------------------------


def test_what_is_remembered_of_a_path_does_not_grow_with_its_watchers() -> None:
    subscriptions = made(*(subscribed(f"s{number}", pattern="events/*") for number in range(500)))
    watch = subscriptions.watch(A)
    assert (len(watch), len(watch._groups)) == (500, 1)
    assert watch._groups[0] is subscriptions.watch(B)._groups[0]
