"""Tests of the events that announce wakes on wake streams."""

import pytest

from durable_streams_server.protocol.commands import Delete
from durable_streams_server.protocol.lifetime import Lifetime
from durable_streams_server.protocol.state import Appended, Created
from durable_streams_server.protocol.subscriptions.commands import Unsubscribe
from tests.protocol.subscriptions.world import JSON, POOL, ROOT, A, World
from tests.requests import SECOND, append, create, fork_of

OTHER = f"{ROOT}/wake/other"


def test_wake_can_be_claimed_without_its_wake_stream(world: World) -> None:
    world.subscribe(wake_stream="wake/other")
    world.append_to(A)
    assert world.wake().wake_id
    assert world.claim().generation == 1


def test_new_wake_stream_gets_the_event_of_the_wake_in_flight(world: World) -> None:
    world.subscribe(wake_stream="wake/other")
    world.append_to(A)
    changes = world.decide(create(OTHER, JSON)).changes
    assert [type(change) for change in changes] == [Created, Appended]
    assert world.announced(OTHER) == [("s", "events/a", 1)]


def test_event_follows_the_body_of_a_new_wake_stream(world: World) -> None:
    world.subscribe(wake_stream="wake/other")
    world.append_to(A)
    world.do(create(OTHER, JSON, b'{"own":1}'))
    first, second = world.events(OTHER)
    assert (first, second["generation"]) == ({"own": 1}, 1)


def test_event_is_appended_after_the_fork_point_of_a_wake_stream(world: World) -> None:
    world.subscribe(wake_stream="wake/other")
    world.do(append(POOL, b"[1,2,3]", JSON))
    world.append_to(A)
    world.do(create(OTHER, None, fork=fork_of(POOL)))
    assert world.announced(OTHER) == [("s", "events/a", 1)]


def test_new_wake_stream_gets_no_event_of_a_claimed_wake(world: World) -> None:
    world.subscribe(wake_stream="wake/other")
    world.append_to(A)
    world.claim()
    assert len(world.decide(create(OTHER, JSON)).changes) == 1


@pytest.mark.parametrize("media", ["text/plain", "application/octet-stream"])
def test_wake_stream_that_is_not_json_gets_no_event(world: World, media: str) -> None:
    world.subscribe(wake_stream="wake/other")
    world.do(create(OTHER, media))
    world.append_to(A)
    assert world.wake()
    assert world.states[OTHER].tail == 0


def test_closed_deleted_or_expired_wake_stream_gets_no_event(world: World) -> None:
    world.subscribe("s", wake_stream="wake/closed")
    world.subscribe("t", wake_stream="wake/soft")
    world.subscribe("u", wake_stream="wake/mortal")
    world.streams(f"{ROOT}/wake/closed", f"{ROOT}/wake/soft")
    world.do(
        append(f"{ROOT}/wake/closed", closes=True),
        create(f"{ROOT}/fork", None, fork=fork_of(f"{ROOT}/wake/soft")),
        Delete(f"{ROOT}/wake/soft"),
        create(f"{ROOT}/wake/mortal", JSON, lifetime=Lifetime(ttl=5)),
    )
    world.forward(6 * SECOND)
    changes = world.append_to(A).changes
    assert sum(isinstance(change, Appended) for change in changes) == 1
    assert all(world.wake(id_) for id_ in "stu")


def test_record_that_closes_a_wake_stream_appends_no_event_to_it(world: World) -> None:
    world.subscribe("s", wake_stream="wake/other", streams=["events/a"])
    world.do(create(OTHER, JSON))
    # The pattern does not link `wake/other`, because that is a wake stream.
    world.subscribe("t", pattern="wake/*", wake_stream="wake/pool")
    world.subscribe("u", streams=["wake/other"])
    world.do(append(OTHER, b"1", JSON, closes=True))
    assert world.due("u") == {OTHER: 0}
    world.append_to(A)
    assert world.events(OTHER) == [1]


def test_wake_stream_can_be_linked_explicitly_but_not_by_pattern(world: World) -> None:
    world.subscribe("s")
    world.subscribe("t", pattern="**", wake_stream="wake/other")
    world.subscribe("u", type="webhook", streams=["wake/pool"])
    world.append_to(A)
    assert world.due("t") == {A: 0}
    assert world.due("u") == {POOL: 0}


def test_pattern_drops_a_stream_that_becomes_a_wake_stream(
    world: World,
) -> None:
    world.subscribe("s", type="webhook", pattern="**")
    world.subscribe("t", type="webhook", streams=["wake/pool"])
    world.append_to(POOL)
    assert world.wake("s")
    world.subscribe("u")
    assert (world.due("s"), world.due("t")) == ({}, {POOL: 0})
    assert world.subscription("s").wake is None
    world.do(Unsubscribe("u"))
    tail = world.states[POOL].tail
    world.append_to(POOL)
    assert world.due("s") == {POOL: tail}


def test_one_append_announces_wakes_along_a_chain_of_wake_streams(world: World) -> None:
    world.subscribe("s")
    world.streams(OTHER, f"{ROOT}/wake/third")
    world.subscribe("t", streams=["wake/pool"], wake_stream="wake/other")
    world.subscribe("u", streams=["wake/other"], wake_stream="wake/third")
    world.append_to(A)
    assert world.announced(POOL) == [("s", "events/a", 1)]
    assert world.announced(OTHER) == [("t", "wake/pool", 1)]
    assert world.announced(f"{ROOT}/wake/third") == [("u", "wake/other", 1)]


def test_loop_between_wake_streams_ends_after_one_event_each(world: World) -> None:
    world.streams(OTHER)
    world.subscribe("s", streams=["wake/other", "events/a"])
    world.subscribe("t", streams=["wake/pool"], wake_stream="wake/other")
    world.append_to(A)
    assert (world.due("s"), world.due("t")) == ({A: 0, OTHER: 0}, {POOL: 0})
    assert (len(world.events(POOL)), len(world.events(OTHER))) == (1, 1)


def test_done_announces_the_next_wake_once_to_dependent_subscriptions(
    world: World,
) -> None:
    world.streams(OTHER)
    world.subscribe("s")
    world.subscribe("t", streams=["wake/pool"], wake_stream="wake/other")
    world.append_to(A)
    world.claim("t")
    world.do(world.acknowledging((POOL, world.tail(POOL)), id_="t", done=True))
    world.claim("s")
    # Another wake begins, because nothing was acknowledged.
    world.do(world.acknowledging(id_="s", done=True))
    assert world.announced(POOL) == [("s", "events/a", 1), ("s", "events/a", 2)]
    assert world.announced(OTHER) == [("t", "wake/pool", 1), ("t", "wake/pool", 2)]
    assert world.subscription("t").generation == 2
