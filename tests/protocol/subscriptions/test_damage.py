"""Tests of damaged streams, which must not block other streams, and of cursors that no longer fit their streams."""

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
    """A dict of stream states, some of which cannot be read.

    Attributes:
        unreadable: the paths of these states.
    """

    def __init__(self, states: dict[str, StreamState]) -> None:
        super().__init__(states)
        self.unreadable: set[str] = set()

    def get(self, path: str, _: None = None, /) -> StreamState | None:  # type: ignore[override]  # a dict offers a default, which no caller passes
        if path in self.unreadable:
            raise Unreadable(path)
        return super().get(path)


@pytest.fixture(params=["entry", "log"])
def how(request: pytest.FixtureRequest) -> str:
    """Returns the damaged part of a stream: its entry in the catalog, or its log."""
    return cast(str, request.param)


def damage(world: World, path: str, how: str) -> None:
    """Damages the catalog entry or the log of a stream."""
    if how == "log":
        world.states[path].damage = "bit-rot"
        return
    states = world.states if isinstance(world.states, Damaged) else Damaged(world.states)
    states.unreadable.add(path)
    world.states = states


def made(**fields: Any) -> World:
    """Returns a world with three streams and one subscription."""
    world = World()
    world.streams(A, B, POOL)
    world.subscribe(**fields)
    return world


def inspect(world: World) -> View:
    """Returns the view that the owner of the subscription gets."""
    return cast(View, world.decide(Inspect("s")).outcome)


def test_append_succeeds_with_a_damaged_wake_stream(how: str) -> None:
    world = made()
    damage(world, POOL, how)
    changes = world.append_to(A).changes
    assert [change.path for change in changes if isinstance(change, Appended)] == [A]
    assert inspect(world).reason == "wake_stream_damaged"
    view = world.claim()
    assert [stream.path for stream in view.streams] == [A]
    assert view.reason is None


def test_claim_skips_a_damaged_stream_that_the_view_reports(how: str) -> None:
    world = made()
    world.append_to(A, B)
    damage(world, A, how)
    view = inspect(world)
    assert (view.damaged, view.reason) == ((A,), "stream_damaged")
    assert [stream.path for stream in world.claim().streams] == [B]
    ack = world.acknowledging((B, world.tail(B)), done=True)
    assert world.decide(ack).outcome == AckOutcome(next_wake=False)
    assert world.due() == {A: 0}  # a repair may bring some of its bytes back


def test_webhook_with_only_damaged_streams_becomes_idle(how: str) -> None:
    world = made(type="webhook")
    world.append_to(A)
    damage(world, A, how)
    assert not isinstance(world.decide(Deliver(world.grant())).outcome, View)
    assert world.subscription().wake is None
    assert world.decide(Tend("s")).changes == ()
    world.append_to(B)
    view = world.decide(Deliver(world.grant())).outcome
    assert isinstance(view, View)
    assert [stream.path for stream in view.streams] == [B]


def test_wake_ends_when_its_last_undamaged_stream_is_deleted(how: str) -> None:
    world = made()
    world.append_to(A, B)
    damage(world, A, how)
    world.do(Delete(B))
    assert world.due() == {A: 0}
    assert world.subscription().wake is None


def test_append_to_a_repaired_stream_wakes_an_idle_subscription() -> None:
    world = made(type="webhook")
    world.append_to(A)
    damage(world, A, "log")
    world.decide(Deliver(world.grant()))
    assert world.subscription().wake is None
    world.states[A].damage = None  # a repair clears this field
    world.append_to(A)
    view = world.decide(Deliver(world.grant())).outcome
    assert isinstance(view, View)
    assert world.due() == {A: 0}


def test_damaged_explicitly_linked_stream_is_listed_at_offset_zero() -> None:
    world = made(streams=["events/a"])
    damage(world, A, "entry")
    assert [(stream.path, stream.acked == stream.tail) for stream in inspect(world).streams] == [
        (A, True)
    ]


def test_subscribe_accepts_a_damaged_wake_stream() -> None:
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
def test_view_shows_why_a_wake_stream_accepts_no_events(happens: str, reason: str | None) -> None:
    world = made()
    if happens == "closed":
        world.do(append(POOL, b"", JSON, closes=True))
    elif happens != "nothing":
        world.do(Delete(POOL))
    if happens == "not json":
        world.do(create(POOL, "text/plain"))
    assert inspect(world).reason is None  # no wake is in flight
    world.append_to(A)
    assert inspect(world).reason == reason
    world.claim()
    assert inspect(world).reason is None


# -- cursors that no longer fit -------------------------------------------------


def lose(world: World, path: str) -> None:
    """Removes a stream without recording a change, as a repair does."""
    del world.states[path]


def test_cursor_of_a_stream_that_a_repair_removed_is_ignored() -> None:
    world = made()
    world.append_to(A, A)
    lose(world, A)
    world.now += 1
    world.do(create(A, JSON))
    assert inspect(world).streams == ()
    world.append_to(A)
    stream = inspect(world).streams[0]
    assert stream.acked == world.states[A].name(0)
    view = world.claim()
    assert view.streams == (stream,)
    ack = world.acknowledging((A, stream.tail), done=True)
    assert world.decide(ack).outcome == AckOutcome(next_wake=False)
    assert world.due() == {}


def test_cursor_of_an_earlier_incarnation_makes_the_whole_stream_unread() -> None:
    world = made()
    world.append_to(A, A)
    earlier = world.subscription().due[A]
    lose(world, A)
    world.now += 1
    world.do(create(A, JSON, b"[1,2,3]"))
    world.subscription().due[A] = earlier  # a restored catalog brings an old cursor back
    assert inspect(world).streams[0].acked == world.states[A].name(0)
    world.claim()
    world.do(world.acknowledging((A, world.tail(A)), done=True))
    assert (world.due(), world.subscription().wake) == ({}, None)


def test_cursor_past_the_tail_leaves_nothing_unread() -> None:
    world = made()
    world.append_to(A, A)
    world.states[A].tail = 0  # a repair has truncated the stream
    assert inspect(world).streams == ()
    world.claim()
    assert world.decide(world.acknowledging(done=True)).outcome == AckOutcome(next_wake=False)
    assert world.due() == {}
