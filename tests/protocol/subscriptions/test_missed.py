"""Tests of full subscriptions, which miss streams, and of the recall pass that gives these streams cursors."""

from typing import cast

import msgspec
import pytest

from durable_streams_server.errors import NotFound
from durable_streams_server.protocol.commands import Delete
from durable_streams_server.protocol.offsets import ZERO
from durable_streams_server.protocol.state import Appended
from durable_streams_server.protocol.subscriptions.changes import Missed, WakeChanged
from durable_streams_server.protocol.subscriptions.commands import (
    Inspect,
    Recall,
    TakeNews,
    Unlink,
    Unsubscribe,
)
from durable_streams_server.protocol.subscriptions.outcomes import RecallOutcome
from durable_streams_server.protocol.subscriptions.state import Subscriptions
from durable_streams_server.protocol.subscriptions.subscription import Subscription
from durable_streams_server.protocol.subscriptions.views import View
from tests.protocol.subscriptions.test_damage import Damaged
from tests.protocol.subscriptions.world import JSON, POOL, ROOT, A, B, C, World
from tests.requests import append, create, fork_of

D = f"{ROOT}/events/d"
OTHER_ROOT = "/other"


@pytest.fixture
def full() -> World:
    """Returns a world with a pull-wake that has room for two cursors, which A and B take."""
    world = World()
    world.subscriptions.max_due = 2
    world.streams(A, B, C, D, POOL)
    world.subscribe()
    for path in (A, B):
        append_later(world, path)
    return world


def append_later(world: World, path: str) -> int:
    """Appends to a stream one second later, and returns the time."""
    world.forward(1_000_000)
    world.append_to(path)
    return world.now


def work(world: World, id_: str = "s") -> None:
    """Claims the wake and acknowledges all its streams."""
    view = world.claim(id_)
    acks = [(stream.path, stream.tail) for stream in view.streams]
    world.do(world.acknowledging(*acks, id_=id_, done=True))


def recall(world: World, *paths: str, id_: str = "s", **fields: bool) -> RecallOutcome:
    """Makes one step of a recall pass."""
    incarnation = world.subscription(id_).incarnation
    outcome = world.decide(Recall(id_, incarnation, paths, **fields)).outcome
    return cast(RecallOutcome, outcome)


def missed(world: World, id_: str = "s") -> tuple[int, int]:
    """Returns the times `since` and `again` of a subscription."""
    subscription = world.subscription(id_)
    return subscription.missed, subscription.missed_again


def test_append_beyond_the_cursor_limit_is_recorded_as_missed(
    full: World,
) -> None:
    full.forward(1)
    changes = full.append_to(C).changes
    assert changes[1:] == (Missed("s", full.now, 0, ROOT),)
    assert full.due() == {A: 0, B: 0}
    append_later(full, D)
    assert full.append_to(C).changes[1:] == ()  # the stream is missed already


def test_append_to_a_stream_with_a_cursor_is_never_missed(full: World) -> None:
    assert [type(change) for change in full.append_to(A).changes] == [Appended]
    full.do(Delete(A))
    assert full.due() == {B: 0}
    full.streams(A)
    append_later(full, A)
    assert (full.due(), missed(full)) == ({B: 0, A: 0}, (0, 0))


def test_recall_adds_cursors_of_missed_streams_and_begins_a_wake(full: World) -> None:
    since = append_later(full, C)
    work(full)
    full.forward(1)
    assert recall(full, begins=True) == RecallOutcome(0, True)
    for path in (A, B):
        assert full.states[path].touched_at < since
    assert recall(full, A, B, POOL, D, "/elsewhere") == RecallOutcome(5, True)
    assert full.due() == {}
    changes = full.decide(Recall("s", full.subscription().incarnation, (C,))).changes
    assert any(isinstance(change, WakeChanged) for change in changes)
    assert full.due() == {C: 0}
    assert recall(full, ends=True) == RecallOutcome(0, False)
    assert missed(full) == (0, 0)


def test_recall_stops_at_half_of_the_cursor_limit(full: World) -> None:
    append_later(full, C)
    append_later(full, D)
    work(full)
    recall(full, begins=True)
    assert recall(full, C, D, ends=True) == RecallOutcome(1, True)
    assert full.due() == {C: 0}
    assert missed(full)[0] > 0  # the pass is not finished
    work(full)
    assert recall(full, D, ends=True) == RecallOutcome(1, False)
    assert full.due() == {D: 0}


def test_stream_missed_during_a_recall_pass_is_left_to_the_next_pass(full: World) -> None:
    append_later(full, C)
    work(full)
    recall(full, begins=True)
    for path in (A, B):
        append_later(full, path)
    again = append_later(full, D)
    append_later(full, D)
    assert missed(full)[1] == again
    assert recall(full, ends=True) == RecallOutcome(0, True)
    assert missed(full) == (again, 0)


def test_new_recall_pass_covers_all_streams_missed_before(full: World) -> None:
    since = append_later(full, C)
    append_later(full, D)
    assert missed(full)[1] > 0
    recall(full, begins=True)
    assert missed(full) == (since, 0)
    assert recall(full, ends=True) == RecallOutcome(0, False)


def test_append_to_a_missed_stream_adds_a_cursor_at_its_beginning(full: World) -> None:
    append_later(full, C)
    work(full)
    append_later(full, C)  # now there is room, but the first value was missed
    assert full.due() == {C: 0}
    append_later(full, A)  # A was last used before the first missed append, so none to A was missed
    assert full.due() == {C: 0, A: 2}


def test_recall_adds_the_cursor_of_a_fork_at_its_fork_point(full: World) -> None:
    fork = f"{ROOT}/events/fork"
    full.do(create(fork, None, fork=fork_of(A)))
    append_later(full, fork)
    work(full)
    recall(full, fork, ends=True)
    assert full.due() == {fork: 2}


def test_recall_for_a_deleted_subscription_does_not_change_its_successor(full: World) -> None:
    append_later(full, C)
    old = full.subscription().incarnation
    full.do(Unsubscribe("s"))
    assert full.subscriptions.kept == 0
    with pytest.raises(NotFound):
        full.decide(Recall("s", old, (C,), ends=True))
    full.subscribe()
    for path in (A, B, C):
        append_later(full, path)
    assert full.decide(Recall("s", old, (C,), ends=True)).changes == ()
    assert missed(full)[0] > 0


def test_recall_skips_unlinked_and_deleted_streams(full: World) -> None:
    full.subscribe("named", streams=["events/c", "events/d"])
    full.subscriptions.max_due = 0
    append_later(full, C)
    append_later(full, D)
    full.subscriptions.max_due = 2
    full.do(Unlink("named", C), Delete(D))
    recall(full, begins=True, id_="named")
    assert recall(full, C, D, ends=True, id_="named") == RecallOutcome(2, False)
    assert full.due("named") == {}


def test_recall_adds_an_unreadable_stream_at_offset_zero(full: World) -> None:
    append_later(full, C)
    work(full)
    full.states = Damaged(full.states)
    full.states.unreadable.add(C)
    recall(full, C, ends=True)
    assert full.subscription().due == {C: ZERO}
    full.states.unreadable.clear()
    (stream,) = full.claim().streams
    assert (stream.path, stream.acked) == (C, str(ZERO))


def test_missed_feed_entry_has_the_time_of_its_append(full: World) -> None:
    full.subscriptions.crowd = 0
    since = append_later(full, C)
    full.forward(5_000_000)
    ids, last = full.subscriptions.to_take(10)
    full.do(TakeNews(ids, last))
    assert missed(full) == (since, 0)
    full.subscriptions.crowd = 32
    append_later(full, D)
    full.subscriptions.crowd = 0
    work(full)
    recall(full, begins=True)
    assert recall(full, C) == RecallOutcome(1, True)
    assert full.due() == {C: 0}


def test_missed_older_feed_entry_moves_the_missed_times_back(full: World) -> None:
    early = full.now
    full.subscriptions.apply(Missed("s", early + 10, early + 20, ROOT))
    full.forward(5)
    full.subscriptions.crowd = 0
    full.append_to(C)
    full.forward(100)
    full.do(TakeNews(("s",), 1))
    assert missed(full) == (early + 5, early + 5)


def test_number_of_cursors_of_all_subscriptions_is_bounded(full: World) -> None:
    full.subscriptions.max_cursors, full.subscriptions.few_due = 3, 1
    full.subscribe("t")
    assert full.subscriptions.kept == 2
    append_later(full, C)
    assert (full.due("t"), full.subscriptions.kept) == ({C: 0}, 3)
    append_later(full, D)
    assert full.due("t") == {C: 0}
    assert missed(full, "t")[0] == full.now
    full.do(Unsubscribe("s"))
    assert full.subscriptions.kept == 1
    append_later(full, D)
    assert full.due("t") == {C: 0, D: 0}


def test_number_of_cursors_is_updated_by_acks_and_restored_documents(full: World) -> None:
    document = full.subscriptions.document("subscription/s")
    assert document is not None
    again = Subscriptions()
    for _ in range(2):
        again.restore("subscription/s", document)
        assert again.kept == 2
    again.move(OTHER_ROOT)
    assert again.kept == 2
    work(full)
    assert full.subscriptions.kept == 0


def test_missed_times_of_one_stream_root_do_not_affect_another(full: World) -> None:
    since = append_later(full, C)
    document = full.subscriptions.document("subscription/s")
    assert document is not None
    again = Subscriptions(OTHER_ROOT)
    again.restore("subscription/s", document)
    subscription = cast(Subscription, again.get("s"))
    assert subscription.missed == 0
    again.apply(Missed("s", since + 1, 0, OTHER_ROOT))
    again.apply(Missed("s", 0, 0, OTHER_ROOT))
    again.move(ROOT)
    assert subscription.missed == since


def test_view_shows_that_a_subscription_missed_streams(full: World) -> None:
    append_later(full, C)
    view = cast(View, full.decide(Inspect("s")).outcome)
    assert (view.status, view.reason) == ("failed", "too_many_streams")
    wake = msgspec.structs.replace(full.wake(), reason="no_progress")
    full.subscriptions.apply(WakeChanged("s", full.subscription().generation, wake))
    assert cast(View, full.decide(Inspect("s")).outcome).reason == "no_progress"
    full.do(append(C, b"1", JSON))


def test_reached_returns_the_later_time_of_a_missed_change(full: World) -> None:
    assert full.subscriptions.reached(Missed("s", 5, 9, ROOT)) == 9
