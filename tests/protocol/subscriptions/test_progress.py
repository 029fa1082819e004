"""Wakes that follow each other: with progress at once, without further and further apart; and each stream gets its turn."""

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
    """A webhook with news in one stream."""
    world = World()
    world.streams(A, B)
    world.subscribe(type="webhook")
    world.news(A)
    return world


@pytest.fixture
def pulled() -> World:
    """A pull-wake with news in one stream."""
    world = World()
    world.streams(A, B, POOL)
    world.subscribe()
    world.news(A)
    return world


def delivered(world: World) -> View:
    view = world.decide(Deliver(world.grant())).outcome
    assert isinstance(view, View)
    return view


def done(world: World, *acks: tuple[str, str]) -> None:
    world.do(world.acknowledging(*acks, done=True))


def test_webhook_that_is_done_without_acks_is_woken_further_and_further_apart(
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


def test_progress_ends_the_waiting(hooked: World) -> None:
    for _ in range(4):
        hooked.now = hooked.wake().next_attempt or 0
        done(hooked)
    hooked.news(A)
    hooked.now = hooked.wake().next_attempt or 0
    done(hooked, (A, hooked.states[A].name(2)))
    wake = hooked.wake()
    assert (wake.next_attempt, wake.fruitless, wake.problem) == (hooked.now, 0, None)


def test_progress_before_a_release_counts(pulled: World) -> None:
    pulled.news(A)
    for _ in range(3):
        pulled.claim()
        pulled.do(Release(pulled.grant(), pulled.grant().generation, pulled.wake().wake_id))
    pulled.claim()
    pulled.do(pulled.acknowledging((A, pulled.states[A].name(2))))
    pulled.do(Release(pulled.grant(), pulled.grant().generation, pulled.wake().wake_id))
    assert (pulled.wake().fruitless, pulled.wake().next_attempt) == (0, None)


def test_events_of_wakes_without_progress_are_written_further_and_further_apart(
    pulled: World,
) -> None:
    for events in (1, 2, 2):
        assert len(pulled.events()) == events
        pulled.claim()  # a wake that is put off can be claimed all the same
        done(pulled)
    assert pulled.wake().next_attempt == NOW + SECOND * 2
    assert pulled.decide(Tend("s")).changes == ()
    pulled.forward(2 * SECOND)
    pulled.do(Tend("s"))
    assert (len(pulled.events()), pulled.wake().next_attempt) == (3, None)


def test_wake_that_was_put_off_ends_if_its_news_is_gone(pulled: World) -> None:
    for _ in range(2):
        pulled.claim()
        done(pulled)
    del pulled.states[A]  # as a repair does, without a change
    pulled.forward(60 * SECOND)
    pulled.do(Tend("s"))
    assert (pulled.subscription().wake, pulled.due()) == (None, {})


def test_lapse_is_no_hurry_either(hooked: World) -> None:
    for _ in range(3):
        hooked.now = hooked.wake().next_attempt or 0
        hooked.do(Delivered(hooked.grant(), hooked.now))
        hooked.forward(LEASE)
        hooked.do(Tend("s"))
        assert hooked.wake().next_attempt == hooked.now  # the lease took longer than the back-off
    assert hooked.wake().problem == "no_progress"


def test_idle_subscription_with_news_is_woken_when_it_is_tended(hooked: World) -> None:
    hooked.subscription().wake = None  # as a repair that has lost records may leave it
    hooked.do(Tend("s"))
    assert hooked.wake().next_attempt == NOW


# -- one wake id, one snapshot ------------------------------------------------


def test_retry_tells_what_the_first_attempt_told(hooked: World) -> None:
    first = delivered(hooked)
    hooked.news(A, B)
    hooked.do(Undelivered(first.grant, NOW + SECOND, "unreachable", first.streams))
    assert hooked.wake().problem == "unreachable"
    hooked.forward(SECOND)
    second = delivered(hooked)
    assert (second.grant, second.streams) == (first.grant, first.streams)
    acks = tuple((stream.path, parse(stream.tail)) for stream in second.streams)
    hooked.do(Acknowledge(second.grant, second.generation, first.grant.wake_id, acks, done=True))
    assert hooked.due() == {A: 2, B: 0}


def test_retry_of_a_large_snapshot_is_another_wake(hooked: World) -> None:
    first = delivered(hooked)
    hooked.do(Undelivered(first.grant, NOW + SECOND, "unreachable", None))
    hooked.forward(SECOND)
    second = delivered(hooked)
    assert second.generation == first.generation + 1
    assert second.grant.wake_id != first.grant.wake_id
    assert hooked.wake().attempts == 1


def test_retry_after_a_callback_that_moved_a_cursor_is_another_wake(hooked: World) -> None:
    hooked.news(A)
    first = delivered(hooked)
    hooked.do(hooked.acknowledging((A, hooked.states[A].name(2))))
    hooked.do(Undelivered(first.grant, NOW + SECOND, "refused", first.streams))
    hooked.forward(SECOND)
    second = delivered(hooked)
    assert second.generation == first.generation + 1
    assert second.streams[0].acked == hooked.states[A].name(2)


def test_snapshot_whose_stream_has_ended_is_told_no_more(hooked: World) -> None:
    hooked.news(B)
    first = delivered(hooked)
    hooked.do(Undelivered(first.grant, NOW + SECOND, "refused", first.streams), Delete(A))
    hooked.forward(SECOND)
    assert hooked.decide(Deliver(hooked.grant())).outcome == Done()
    second = delivered(hooked)
    assert second.generation == first.generation + 1
    assert [stream.path for stream in second.streams] == [B]


def test_wake_without_news_ends_when_its_delivery_fails(hooked: World) -> None:
    first = delivered(hooked)
    hooked.do(hooked.acknowledging(), Delete(A))
    hooked.do(Undelivered(first.grant, NOW + SECOND, "refused", first.streams))
    assert hooked.subscription().wake is None


def test_wake_that_is_put_off_is_not_announced_by_a_new_wake_stream(pulled: World) -> None:
    for _ in range(2):
        pulled.claim()
        done(pulled)
    pulled.do(Delete(POOL))
    pulled.streams(POOL)
    assert pulled.events() == []
    pulled.forward(60 * SECOND)
    pulled.do(Tend("s"))
    assert len(pulled.events()) == 1


def test_failure_after_all_was_acknowledged_ends_the_wake(hooked: World) -> None:
    first = delivered(hooked)
    hooked.do(hooked.acknowledging((A, hooked.tail(A))))
    hooked.do(Undelivered(first.grant, NOW + SECOND, "refused", first.streams))
    assert hooked.subscription().wake is None


def test_wake_of_an_earlier_opening_is_renamed_before_it_is_delivered(hooked: World) -> None:
    first = delivered(hooked)  # and the process dies before it hears the answer
    hooked.subscriptions.opening = "later"
    hooked.news(A)
    hooked.do(Tend("s"))
    second = delivered(hooked)
    assert second.generation == first.generation + 1
    assert second.grant.wake_id.endswith("_later")
    assert hooked.decide(Deliver(first.grant)).outcome == Done()


def test_claim_of_a_wake_of_an_earlier_opening_renames_it(pulled: World) -> None:
    """Another worker may have claimed that wake before an older copy of the store was restored."""
    earlier = pulled.wake().wake_id
    pulled.subscriptions.opening = "later"
    view = pulled.claim()
    assert view.generation == 2
    assert view.grant.wake_id.endswith("_later")
    assert view.grant.wake_id != earlier


def test_wake_whose_snapshot_is_known_keeps_its_name_over_a_restart(hooked: World) -> None:
    first = delivered(hooked)
    hooked.do(Undelivered(first.grant, NOW + SECOND, "refused", first.streams))
    hooked.subscriptions.opening = "later"
    hooked.forward(SECOND)
    assert hooked.decide(Tend("s")).changes == ()
    assert delivered(hooked).grant == first.grant


def test_receiver_that_may_be_at_work_is_left_alone_until_its_lease_ends(hooked: World) -> None:
    first = delivered(hooked)
    hooked.forward(5 * SECOND)
    hooked.do(Delivered(first.grant, NOW, "no_answer"))
    wake = hooked.wake()
    assert (wake.lease_until, wake.next_attempt, wake.problem) == (NOW + LEASE, None, "no_answer")
    hooked.do(hooked.acknowledging((A, hooked.tail(A)), done=True))
    assert hooked.subscription().wake is None


# -- rounds -------------------------------------------------------------------


@pytest.mark.parametrize("end", ["done", "release", "lapse", "takeover"])
def test_each_stream_gets_its_turn(monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    monkeypatch.setattr(views, "MAX_LISTED", 3)
    monkeypatch.setattr(context, "MAX_LISTED", 3)
    world = World()
    paths = [f"{ROOT}/events/{number}" for number in range(8)]
    world.streams(*paths, POOL)
    world.subscribe()
    world.news(*paths)
    told: list[str] = []
    for _ in range(4):
        told += [stream.path for stream in world.claim().streams]
        if end == "done":
            done(world)
        elif end == "release":
            world.do(Release(world.grant(), world.grant().generation, world.wake().wake_id))
        else:
            world.forward(LEASE)
            if end == "lapse":
                world.do(Tend("s"))
    assert told[:8] == paths
    assert told[8:] == paths[:4]


def test_what_is_acknowledged_is_not_passed_over_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "MAX_LISTED", 2)
    monkeypatch.setattr(context, "MAX_LISTED", 2)
    world = World()
    paths = [f"{ROOT}/events/{number}" for number in range(6)]
    world.streams(*paths, POOL)
    world.subscribe()
    world.news(*paths)
    told = []
    for _ in range(5):
        view = world.claim()
        told.append([stream.path[-1] for stream in view.streams])
        first = view.streams[0]
        done(world, (first.path, first.tail))
    assert told == [["0", "1"], ["2", "3"], ["4", "5"], ["1", "3"], ["5", "3"]]
