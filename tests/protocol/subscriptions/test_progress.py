"""Tests of consecutive wakes: their backoff, their wake ids and snapshots, and the order of their streams."""

import pytest

from durable_streams_server.protocol.commands import Delete
from durable_streams_server.protocol.offsets import parse
from durable_streams_server.protocol.subscriptions import context, views
from durable_streams_server.protocol.subscriptions.commands import (
    Acknowledge,
    Deliver,
    Delivered,
    Release,
    Tend,
    Undelivered,
)
from durable_streams_server.protocol.subscriptions.outcomes import Done
from durable_streams_server.protocol.subscriptions.views import View
from tests.protocol.subscriptions.world import LEASE, POOL, ROOT, A, B, World
from tests.requests import NOW, SECOND


@pytest.fixture
def hooked() -> World:
    """Returns a world with a webhook subscription and one unread stream."""
    world = World()
    world.streams(A, B)
    world.subscribe(type="webhook")
    world.append_to(A)
    return world


@pytest.fixture
def pulled() -> World:
    """Returns a world with a pull-wake subscription and one unread stream."""
    world = World()
    world.streams(A, B, POOL)
    world.subscribe()
    world.append_to(A)
    return world


def begin_delivery(world: World) -> View:
    """Begins the delivery of the wake in flight, and returns its view."""
    view = world.decide(Deliver(world.grant())).outcome
    assert isinstance(view, View)
    return view


def done(world: World, *acks: tuple[str, str]) -> None:
    """Acknowledges offsets, and ends the wake in flight."""
    world.do(world.acknowledging(*acks, done=True))


def test_webhook_wakes_without_progress_begin_with_growing_delays(
    hooked: World,
) -> None:
    begins = []
    for _ in range(6):
        wake = hooked.wake()
        assert wake.next_attempt is not None
        hooked.now = wake.next_attempt
        begins.append(wake.next_attempt - NOW)
        done(hooked)
    assert [begin / SECOND for begin in begins] == [0, 0, 1, 3, 7, 15]
    assert hooked.wake().problem == "no_progress"


def test_progress_resets_the_backoff_between_wakes(hooked: World) -> None:
    for _ in range(4):
        hooked.now = hooked.wake().next_attempt or 0
        done(hooked)
    hooked.append_to(A)
    hooked.now = hooked.wake().next_attempt or 0
    done(hooked, (A, hooked.states[A].name(2)))
    wake = hooked.wake()
    assert (wake.next_attempt, wake.fruitless, wake.problem) == (hooked.now, 0, None)


def test_acknowledgement_before_a_release_resets_the_backoff(pulled: World) -> None:
    pulled.append_to(A)
    for _ in range(3):
        pulled.claim()
        pulled.do(Release(pulled.grant(), pulled.grant().generation, pulled.wake().wake_id))
    pulled.claim()
    pulled.do(pulled.acknowledging((A, pulled.states[A].name(2))))
    pulled.do(Release(pulled.grant(), pulled.grant().generation, pulled.wake().wake_id))
    assert (pulled.wake().fruitless, pulled.wake().next_attempt) == (0, None)


def test_pull_wake_events_without_progress_are_appended_with_growing_delays(
    pulled: World,
) -> None:
    for events in (1, 2, 2):
        assert len(pulled.events()) == events
        pulled.claim()  # a wake whose event is delayed can be claimed too
        done(pulled)
    assert pulled.wake().next_attempt == NOW + SECOND * 2
    assert pulled.decide(Tend("s")).changes == ()
    pulled.forward(2 * SECOND)
    pulled.do(Tend("s"))
    assert (len(pulled.events()), pulled.wake().next_attempt) == (3, None)


def test_tend_ends_a_delayed_wake_without_unread_bytes(pulled: World) -> None:
    for _ in range(2):
        pulled.claim()
        done(pulled)
    del pulled.states[A]  # a repair removes a stream without recording a change
    pulled.forward(60 * SECOND)
    pulled.do(Tend("s"))
    assert (pulled.subscription().wake, pulled.due()) == (None, {})


def test_ended_lease_counts_as_a_wake_without_progress(hooked: World) -> None:
    for _ in range(3):
        hooked.now = hooked.wake().next_attempt or 0
        hooked.do(Delivered(hooked.grant(), hooked.now))
        hooked.forward(LEASE)
        hooked.do(Tend("s"))
        assert hooked.wake().next_attempt == hooked.now  # the lease lasted longer than the backoff
    assert hooked.wake().problem == "no_progress"


def test_tend_wakes_an_idle_subscription_with_unread_bytes(hooked: World) -> None:
    hooked.subscription().wake = None  # a repair that lost records can leave this state
    hooked.do(Tend("s"))
    assert hooked.wake().next_attempt == NOW


# -- one wake id, one snapshot ------------------------------------------------


def test_retry_delivers_the_snapshot_of_the_first_attempt(hooked: World) -> None:
    first = begin_delivery(hooked)
    hooked.append_to(A, B)
    hooked.do(Undelivered(first.grant, NOW + SECOND, "unreachable", first.streams))
    assert hooked.wake().problem == "unreachable"
    hooked.forward(SECOND)
    second = begin_delivery(hooked)
    assert (second.grant, second.streams) == (first.grant, first.streams)
    acks = tuple((stream.path, parse(stream.tail)) for stream in second.streams)
    hooked.do(Acknowledge(second.grant, second.generation, first.grant.wake_id, acks, done=True))
    assert hooked.due() == {A: 2, B: 0}


def test_retry_without_a_stored_snapshot_begins_another_wake(hooked: World) -> None:
    first = begin_delivery(hooked)
    hooked.do(Undelivered(first.grant, NOW + SECOND, "unreachable", None))
    hooked.forward(SECOND)
    second = begin_delivery(hooked)
    assert second.generation == first.generation + 1
    assert second.grant.wake_id != first.grant.wake_id
    assert hooked.wake().attempts == 1


def test_retry_after_a_callback_with_progress_begins_another_wake(hooked: World) -> None:
    hooked.append_to(A)
    first = begin_delivery(hooked)
    hooked.do(hooked.acknowledging((A, hooked.states[A].name(2))))
    hooked.do(Undelivered(first.grant, NOW + SECOND, "refused", first.streams))
    hooked.forward(SECOND)
    second = begin_delivery(hooked)
    assert second.generation == first.generation + 1
    assert second.streams[0].acked == hooked.states[A].name(2)


def test_snapshot_with_a_deleted_stream_is_not_delivered_again(hooked: World) -> None:
    hooked.append_to(B)
    first = begin_delivery(hooked)
    hooked.do(Undelivered(first.grant, NOW + SECOND, "refused", first.streams), Delete(A))
    hooked.forward(SECOND)
    assert hooked.decide(Deliver(hooked.grant())).outcome == Done()
    second = begin_delivery(hooked)
    assert second.generation == first.generation + 1
    assert [stream.path for stream in second.streams] == [B]


def test_failed_delivery_ends_a_wake_whose_stream_is_deleted(hooked: World) -> None:
    first = begin_delivery(hooked)
    hooked.do(hooked.acknowledging(), Delete(A))
    hooked.do(Undelivered(first.grant, NOW + SECOND, "refused", first.streams))
    assert hooked.subscription().wake is None


def test_new_wake_stream_gets_no_event_of_a_delayed_wake(pulled: World) -> None:
    for _ in range(2):
        pulled.claim()
        done(pulled)
    pulled.do(Delete(POOL))
    pulled.streams(POOL)
    assert pulled.events() == []
    pulled.forward(60 * SECOND)
    pulled.do(Tend("s"))
    assert len(pulled.events()) == 1


def test_failed_delivery_ends_a_wake_without_unread_bytes(hooked: World) -> None:
    first = begin_delivery(hooked)
    hooked.do(hooked.acknowledging((A, hooked.tail(A))))
    hooked.do(Undelivered(first.grant, NOW + SECOND, "refused", first.streams))
    assert hooked.subscription().wake is None


def test_wake_begun_before_a_restart_gets_a_new_id_before_delivery(hooked: World) -> None:
    first = begin_delivery(hooked)  # the process then dies before the response
    hooked.subscriptions.opening = "later"
    hooked.append_to(A)
    hooked.do(Tend("s"))
    second = begin_delivery(hooked)
    assert second.generation == first.generation + 1
    assert second.grant.wake_id.endswith("_later")
    assert hooked.decide(Deliver(first.grant)).outcome == Done()


def test_claim_gives_a_new_id_to_a_wake_begun_before_a_restart(pulled: World) -> None:
    """Another worker may have claimed the same wake before an older copy of the store was restored."""
    earlier = pulled.wake().wake_id
    pulled.subscriptions.opening = "later"
    view = pulled.claim()
    assert view.generation == 2
    assert view.grant.wake_id.endswith("_later")
    assert view.grant.wake_id != earlier


def test_wake_with_a_stored_snapshot_keeps_its_wake_id_after_a_restart(hooked: World) -> None:
    first = begin_delivery(hooked)
    hooked.do(Undelivered(first.grant, NOW + SECOND, "refused", first.streams))
    hooked.subscriptions.opening = "later"
    hooked.forward(SECOND)
    assert hooked.decide(Tend("s")).changes == ()
    assert begin_delivery(hooked).grant == first.grant


def test_delivery_without_response_begins_a_lease(hooked: World) -> None:
    first = begin_delivery(hooked)
    hooked.forward(5 * SECOND)
    hooked.do(Delivered(first.grant, NOW, "no_answer"))
    wake = hooked.wake()
    assert (wake.lease_until, wake.next_attempt, wake.problem) == (NOW + LEASE, None, "no_answer")
    hooked.do(hooked.acknowledging((A, hooked.tail(A)), done=True))
    assert hooked.subscription().wake is None


# -- the queue of streams -------------------------------------------------------------------


@pytest.mark.parametrize("end", ["done", "release", "lease over", "takeover"])
def test_successive_wakes_list_all_streams_in_turn(
    monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setattr(views, "MAX_LISTED", 3)
    monkeypatch.setattr(context, "MAX_LISTED", 3)
    world = World()
    paths = [f"{ROOT}/events/{number}" for number in range(8)]
    world.streams(*paths, POOL)
    world.subscribe()
    world.append_to(*paths)
    listed: list[str] = []
    for _ in range(4):
        listed += [stream.path for stream in world.claim().streams]
        if end == "done":
            done(world)
        elif end == "release":
            world.do(Release(world.grant(), world.grant().generation, world.wake().wake_id))
        else:
            world.forward(LEASE)
            if end == "lease over":
                world.do(Tend("s"))
    assert listed[:8] == paths
    assert listed[8:] == paths[:4]


def test_streams_listed_but_not_acknowledged_move_to_the_end_of_the_queue(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(views, "MAX_LISTED", 2)
    monkeypatch.setattr(context, "MAX_LISTED", 2)
    world = World()
    paths = [f"{ROOT}/events/{number}" for number in range(6)]
    world.streams(*paths, POOL)
    world.subscribe()
    world.append_to(*paths)
    listed = []
    for _ in range(5):
        view = world.claim()
        listed.append([stream.path[-1] for stream in view.streams])
        first = view.streams[0]
        done(world, (first.path, first.tail))
    assert listed == [["0", "1"], ["2", "3"], ["4", "5"], ["1", "3"], ["5", "3"]]
