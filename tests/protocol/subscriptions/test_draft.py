"""Tests of drafts, which collect the changes that one record makes to subscriptions."""

from durable_streams_server.protocol.offsets import parse
from durable_streams_server.protocol.state import Appended
from durable_streams_server.protocol.subscriptions.changes import CursorsMoved, WakeChanged
from durable_streams_server.protocol.subscriptions.draft import Draft
from tests.protocol.subscriptions.world import POOL, A, B, C, World
from tests.requests import SECOND


def draft_of(world: World, *, announces: bool = True) -> Draft:
    """Returns the draft of a record without changes to streams."""
    return Draft(world.subscriptions, world.states, (), world.now, 0, announces)


def test_empty_draft_has_no_changes(woken: World) -> None:
    assert draft_of(woken).finish() == ()


def test_set_cursor_changes_the_draft_but_not_the_subscription(woken: World) -> None:
    draft, subscription = draft_of(woken), woken.subscription()
    offset = parse(woken.states[A].name(1))
    draft.set_cursor(subscription, A, offset)
    assert draft.cursor(subscription, A) == offset
    assert woken.due() == {A: 0}
    assert draft.finish() == (CursorsMoved("s", ((A, offset),)),)


def test_draft_yields_cursors_in_queue_order(woken: World) -> None:
    woken.streams(C)
    woken.append_to(B)
    draft, subscription = draft_of(woken), woken.subscription()
    draft.set_cursor(subscription, C, parse(woken.states[C].name(0)))
    draft.set_wake(subscription, 2, woken.wake(), passed=1)
    assert [path for path, _ in draft.cursors(subscription)] == [B, C, A]


def test_first_due_skips_damaged_streams_and_drops_cursors_at_the_tail(woken: World) -> None:
    woken.append_to(B)
    draft, subscription = draft_of(woken), woken.subscription()
    woken.states[A].damage = "bit-rot"
    assert draft.first_due(subscription) == B
    woken.states[B].tail = 0  # a repair has truncated the stream
    assert draft.first_due(subscription) is None
    assert draft.cursor(subscription, B) is None
    assert draft.cursor(subscription, A) is not None


def test_wake_is_delayed_if_the_store_has_no_room_for_events(woken: World) -> None:
    draft, subscription = draft_of(woken, announces=False), woken.subscription()
    draft.begin_wake(subscription, A)
    wake = draft.wake_of(subscription)
    assert wake is not None
    assert wake.next_attempt == woken.now + SECOND
    assert [type(change) for change in draft.finish()] == [WakeChanged]


def test_announced_wake_appends_its_event_to_the_wake_stream(woken: World) -> None:
    draft = draft_of(woken)
    draft.begin_wake(woken.subscription(), A)
    change, appended = draft.finish()
    assert isinstance(change, WakeChanged)
    assert isinstance(appended, Appended)
    assert (appended.path, appended.start) == (POOL, woken.states[POOL].tail)
