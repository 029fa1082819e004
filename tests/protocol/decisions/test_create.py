"""Tests of decisions about creates and forks."""

import msgspec
import pytest

from durable_streams_server.errors import BadRequest, Conflict, NotFound, PreconditionFailed
from durable_streams_server.protocol.commands import Command, Delete, Fork
from durable_streams_server.protocol.decisions.outcomes import CreateOutcome
from durable_streams_server.protocol.lifetime import Lifetime
from durable_streams_server.protocol.limits import MAX_FORK_DEPTH, MAX_POSITION
from durable_streams_server.protocol.preconditions import tag_of
from durable_streams_server.protocol.state import Created, Removed
from tests.protocol.decisions.world import (
    ABSENT,
    PRESENT,
    STALE,
    World,
    assert_precondition_fails,
    tag_condition,
)
from tests.requests import NOW, SECOND, append, create, fork_of

JSON = "application/json"


@pytest.mark.parametrize(
    ("again", "matches"),
    [
        (create("/a", "text/plain", lifetime=Lifetime(ttl=60)), True),
        (create("/a", "TEXT/plain; charset=utf-8", lifetime=Lifetime(ttl=60)), True),
        (create("/a", JSON, lifetime=Lifetime(ttl=60)), False),
        (create("/a", None, lifetime=Lifetime(ttl=60)), False),
        (create("/a", "text/plain"), False),
        (create("/a", "text/plain", lifetime=Lifetime(ttl=61)), False),
        (create("/a", "text/plain", lifetime=Lifetime(ttl=60), closes=True), False),
        (create("/a", "text/plain", lifetime=Lifetime(ttl=60), fork=Fork("/b", None, None)), False),
    ],
)
def test_repeated_create_conflicts_unless_every_field_matches(
    world: World, again: Command, matches: bool
) -> None:  # TRAPS 25
    world.decide(create("/a", "text/plain", b"hello", lifetime=Lifetime(ttl=60)))
    if matches:
        decision = world.decide(again)
        assert decision.changes == ()
        assert isinstance(decision.outcome, CreateOutcome)
        assert not decision.outcome.created
    else:
        world.refused(again, Conflict, "STREAM_EXISTS")


def test_repeated_create_of_public_stream_must_say_that_it_is_public(world: World) -> None:
    made = world.decide(create("/a", public=True))
    assert isinstance(made.outcome, CreateOutcome)
    assert made.outcome.public
    assert world.states["/a"].public
    again = world.decide(create("/a", public=True))
    assert again.changes == ()
    assert isinstance(again.outcome, CreateOutcome)
    assert again.outcome.public
    world.refused(create("/a"), Conflict, "STREAM_EXISTS")
    world.decide(create("/b"))
    world.refused(create("/b", public=True), Conflict, "STREAM_EXISTS")


def test_fork_is_public_only_if_its_own_request_says_so(world: World) -> None:
    world.decide(create("/a", public=True))
    world.decide(create("/private", None, fork=fork_of("/a")))
    world.decide(create("/public", None, fork=fork_of("/a"), public=True))
    assert not world.states["/private"].public
    assert world.states["/public"].public
    world.refused(
        create("/private", None, fork=fork_of("/a"), public=True), Conflict, "STREAM_EXISTS"
    )
    world.refused(create("/public", None, fork=fork_of("/a")), Conflict, "STREAM_EXISTS")


def test_create_without_content_type_makes_an_octet_stream(world: World) -> None:
    world.decide(create("/a", None))
    assert world.states["/a"].media.essence == "application/octet-stream"
    assert world.decide(create("/a")).changes == ()


def test_fork_inherits_content_type_and_lifetime(world: World) -> None:  # TRAPS 27
    world.decide(create("/a", JSON, b"[1,2]", lifetime=Lifetime(ttl=9)))
    world.decide(create("/b", None, fork=fork_of("/a")))
    world.decide(create("/c", None, lifetime=Lifetime(ttl=5), fork=fork_of("/b")))
    assert world.states["/b"].media == world.states["/a"].media
    assert (world.states["/b"].lifetime.ttl, world.states["/c"].lifetime.ttl) == (9, 5)
    assert [world.states[path].children for path in ("/a", "/b", "/c")] == [1, 1, 0]
    assert world.states["/c"].name(4) == world.states["/a"].name(4)


def test_fork_refused_for_its_content_type_is_not_counted_as_child(
    world: World,
) -> None:  # TRAPS 27
    world.decide(create("/a", JSON))
    world.refused(create("/b", "text/plain", fork=fork_of("/a")), Conflict, "CONTENT_TYPE_MISMATCH")
    assert world.states["/a"].children == 0
    assert isinstance(world.decide(Delete("/a")).changes[0], Removed)


def test_fork_beyond_maximum_depth_is_refused(world: World) -> None:
    world.decide(create("/0", body=b"x"))
    for depth in range(1, MAX_FORK_DEPTH + 1):
        world.decide(create(f"/{depth}", None, b"x", fork=fork_of(f"/{depth - 1}")))
    deepest = f"/{MAX_FORK_DEPTH}"
    error = world.refused(create("/more", None, fork=fork_of(deepest)), Conflict, "FORK_TOO_DEEP")
    assert str(MAX_FORK_DEPTH) in error.message
    at_start = fork_of(deepest, world.states["/0"].name(0), at=0)
    at_start = msgspec.structs.replace(at_start, incarnation=world.states[deepest].incarnation)
    world.refused(create("/more", None, fork=at_start), Conflict, "FORK_TOO_DEEP")
    world.decide(create("/beside", None, fork=fork_of(f"/{MAX_FORK_DEPTH - 1}")))
    assert world.states[deepest].children == 0


@pytest.mark.parametrize("source", ["/nowhere", "/b"])
def test_fork_of_missing_source_is_not_found(world: World, source: str) -> None:
    world.refused(create("/b", None, fork=fork_of(source)), NotFound, "SOURCE_NOT_FOUND")


def test_fork_with_an_unresolved_offset_is_refused(world: World) -> None:
    world.decide(create("/a", body=b"abc"))
    unresolved = fork_of("/a", world.states["/a"].name(1))
    world.refused(create("/b", None, fork=unresolved), NotFound, "SOURCE_NOT_FOUND")


def test_fork_position_in_an_earlier_incarnation_is_refused(world: World) -> None:
    world.decide(create("/a", body=b"abc"))
    resolved = Fork("/a", None, None, 1, world.states["/a"].incarnation - 1)
    world.refused(create("/b", None, fork=resolved), BadRequest, "INVALID_OFFSET")


def test_repeated_fork_is_confirmed_after_its_source_is_deleted(world: World) -> None:
    world.decide(create("/a", body=b"abc"))
    world.decide(create("/b", None, fork=fork_of("/a")))
    world.decide(append("/a", b"more"))
    world.decide(Delete("/a"))
    assert world.decide(create("/b", None, fork=fork_of("/a"))).changes == ()
    anchor = world.states["/b"].origin
    assert anchor is not None
    assert world.decide(create("/b", None, fork=fork_of("/a", anchor.anchor))).changes == ()
    other = "0000000000000001_0000000000000001"
    world.refused(create("/b", None, fork=fork_of("/a", other)), Conflict, "STREAM_EXISTS")
    world.refused(create("/b", None, fork=fork_of("/c")), Conflict, "STREAM_EXISTS")


def test_create_replaces_an_expired_stream_at_once(world: World) -> None:  # TRAPS 26
    world.decide(create("/a", lifetime=Lifetime(ttl=1)))
    first = world.states["/a"].incarnation
    later = NOW + SECOND
    world.refused(append("/a", b"x"), NotFound, "STREAM_NOT_FOUND", later)
    decision = world.decide(create("/a", JSON), later)
    assert [type(change) for change in decision.changes] == [Removed, Created]
    assert world.states["/a"].incarnation > first


def test_fork_body_past_the_maximum_position_is_refused(world: World) -> None:
    world.decide(create("/a"))
    world.states["/a"].tail = MAX_POSITION
    world.refused(create("/b", None, b"x", fork=fork_of("/a")), Conflict, "STREAM_FULL")
    world.decide(create("/b", None, fork=fork_of("/a")))


def test_create_with_if_none_match_fails_on_an_existing_stream(world: World) -> None:
    assert world.decide(create("/a", body=b"x", conditions=ABSENT)).changes
    refusal = assert_precondition_fails(world, create("/a", body=b"x", conditions=ABSENT))
    assert dict(refusal.headers)[b"etag"] == tag_of(world.states["/a"])
    # The precondition is also checked before the configuration is compared.
    assert_precondition_fails(world, create("/a", JSON, conditions=ABSENT))
    world.decide(Delete("/a"))
    assert world.decide(create("/a", JSON, conditions=ABSENT)).changes


def test_create_with_if_match_fails_without_a_matching_stream(world: World) -> None:
    for conditions in (PRESENT, STALE):
        assert_precondition_fails(world, create("/a", conditions=conditions))
        assert_precondition_fails(
            world, create("/a", conditions=conditions, lifetime=Lifetime(ttl=5))
        )
    assert world.states == {}
    world.decide(create("/a"))
    assert world.decide(create("/a", conditions=tag_condition(world))).changes == ()
    assert_precondition_fails(world, create("/a", conditions=STALE))


def test_create_conditions_ignore_an_expired_stream(world: World) -> None:
    world.decide(create("/a", lifetime=Lifetime(ttl=5)))
    later = NOW + 6 * SECOND
    world.refused(
        create("/a", conditions=PRESENT), PreconditionFailed, "PRECONDITION_FAILED", later
    )
    assert world.decide(create("/a", conditions=ABSENT), later).changes


def test_create_conditions_are_checked_after_all_other_refusals(world: World) -> None:
    fork = create("/b", None, fork=fork_of("/nowhere"), conditions=PRESENT)
    world.refused(fork, NotFound, "SOURCE_NOT_FOUND")
    world.refused(create("/b", JSON, b"[", conditions=PRESENT), BadRequest, "INVALID_JSON")
