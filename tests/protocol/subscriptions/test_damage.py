"""One stream that cannot be read holds up nobody else: not the streams that it is told of, nor those beside it."""

from typing import Any, cast

import pytest

from durable_streams_server.protocol.commands import Delete
from durable_streams_server.protocol.state import Appended, StreamState, Unreadable
from durable_streams_server.protocol.subscriptions.commands import Deliver, Inspect, Tend
from durable_streams_server.protocol.subscriptions.outcomes import AckOutcome
from durable_streams_server.protocol.subscriptions.views import View
from tests.protocol.subscriptions.world import JSON, POOL, A, B, World
from tests.requests import append, create


class Damaged(dict[str, StreamState]):
    """States of which some cannot be read.

    Attributes:
        unreadable: their paths.
    """

    def __init__(self, states: dict[str, StreamState]) -> None:
        super().__init__(states)
        self.unreadable: set[str] = set()

    def get(self, path: str, _: None = None, /) -> StreamState | None:  # type: ignore[override]
        if path in self.unreadable:
            raise Unreadable(path)
        return super().get(path)


@pytest.fixture(params=["entry", "log"])
def how(request: pytest.FixtureRequest) -> str:
    """What is damaged of a stream: its entry in the catalog, or its log."""
    return cast(str, request.param)


def damage(world: World, path: str, how: str) -> None:
    if how == "log":
        world.states[path].damage = "bit-rot"
        return
    states = world.states if isinstance(world.states, Damaged) else Damaged(world.states)
    states.unreadable.add(path)
    world.states = states


def made(**fields: Any) -> World:
    world = World()
    world.streams(A, B, POOL)
    world.subscribe(**fields)
    return world


def looked(world: World) -> View:
    return cast(View, world.decide(Inspect("s")).outcome)


def test_append_beside_a_damaged_wake_stream_is_taken(how: str) -> None:
    world = made()
    damage(world, POOL, how)
    changes = world.news(A).changes
    assert [change.path for change in changes if isinstance(change, Appended)] == [A]
    assert looked(world).reason == "wake_stream_damaged"
    view = world.claim()
    assert [stream.path for stream in view.streams] == [A]
    assert view.reason is None


def test_damaged_stream_with_news_is_set_aside_and_shown(how: str) -> None:
    world = made()
    world.news(A, B)
    damage(world, A, how)
    view = looked(world)
    assert (view.damaged, view.reason) == ((A,), "stream_damaged")
    assert [stream.path for stream in world.claim().streams] == [B]
    ack = world.acknowledging((B, world.tail(B)), done=True)
    assert world.decide(ack).outcome == AckOutcome(next_wake=False)
    assert world.due() == {A: 0}  # what is left of it may be repaired


def test_webhook_with_nothing_but_damaged_streams_is_at_rest(how: str) -> None:
    world = made(type="webhook")
    world.news(A)
    damage(world, A, how)
    assert not isinstance(world.decide(Deliver(world.grant())).outcome, View)
    assert world.subscription().wake is None
    assert world.decide(Tend("s")).changes == ()
    world.news(B)
    view = world.decide(Deliver(world.grant())).outcome
    assert isinstance(view, View)
    assert [stream.path for stream in view.streams] == [B]


def test_stream_beside_a_damaged_one_can_be_deleted(how: str) -> None:
    world = made()
    world.news(A, B)
    damage(world, A, how)
    world.do(Delete(B))
    assert world.due() == {A: 0}
    assert world.subscription().wake is None


def test_append_to_a_stream_that_was_damaged_wakes_an_idle_subscription() -> None:
    world = made(type="webhook")
    world.news(A)
    damage(world, A, "log")
    world.decide(Deliver(world.grant()))
    assert world.subscription().wake is None
    world.states[A].damage = None  # as after a repair
    world.news(A)
    view = world.decide(Deliver(world.grant())).outcome
    assert isinstance(view, View)
    assert world.due() == {A: 0}


def test_damaged_stream_that_is_linked_by_name_is_listed_at_the_start() -> None:
    world = made(streams=["events/a"])
    damage(world, A, "entry")
    assert [(stream.path, stream.acked == stream.tail) for stream in looked(world).streams] == [
        (A, True)
    ]


def test_new_subscription_may_name_a_damaged_wake_stream() -> None:
    world = made()
    damage(world, POOL, "entry")
    world.subscribe("t")


@pytest.mark.parametrize(
    ("happens", "reason"),
    [
        ("nothing", None),
        ("closed", "wake_stream_closed"),
        ("deleted", "wake_stream_missing"),
        ("not json", "wake_stream_not_json"),
    ],
)
def test_wake_stream_that_takes_no_events_is_shown(happens: str, reason: str | None) -> None:
    world = made()
    if happens == "closed":
        world.do(append(POOL, b"", JSON, closes=True))
    elif happens != "nothing":
        world.do(Delete(POOL))
    if happens == "not json":
        world.do(create(POOL, "text/plain"))
    assert looked(world).reason is None  # nothing waits to be told
    world.news(A)
    assert looked(world).reason == reason
    world.claim()
    assert looked(world).reason is None


# -- cursors of what is no more -------------------------------------------------


def lose(world: World, path: str) -> None:
    """Puts a stream aside, as a repair does: no change tells of it."""
    del world.states[path]


def test_cursor_of_a_stream_that_a_repair_put_aside_counts_for_nothing() -> None:
    world = made()
    world.news(A, A)
    lose(world, A)
    world.now += 1
    world.do(create(A, JSON))
    assert looked(world).streams == ()
    world.news(A)
    stream = looked(world).streams[0]
    assert stream.acked == world.states[A].name(0)
    view = world.claim()
    assert view.streams == (stream,)
    ack = world.acknowledging((A, stream.tail), done=True)
    assert world.decide(ack).outcome == AckOutcome(next_wake=False)
    assert world.due() == {}


def test_news_of_a_stream_that_was_made_while_nobody_looked_is_all_of_it() -> None:
    world = made()
    world.news(A, A)
    earlier = world.subscription().due[A]
    lose(world, A)
    world.now += 1
    world.do(create(A, JSON, b"[1,2,3]"))
    world.subscription().due[A] = earlier  # a cursor that came back with a restored catalog
    assert looked(world).streams[0].acked == world.states[A].name(0)
    world.claim()
    world.do(world.acknowledging((A, world.tail(A)), done=True))
    assert (world.due(), world.subscription().wake) == ({}, None)


def test_cursor_past_the_tail_is_at_the_tail() -> None:
    world = made()
    world.news(A, A)
    world.states[A].tail = 0  # a repair has taken the bytes away
    assert looked(world).streams == ()
    world.claim()
    assert world.decide(world.acknowledging(done=True)).outcome == AckOutcome(next_wake=False)
    assert world.due() == {}
