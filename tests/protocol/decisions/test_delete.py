"""Tests of decisions about deletes and expiries."""

from durable_streams_server.errors import Conflict, Gone, NotFound
from durable_streams_server.protocol.commands import Delete, Expire
from durable_streams_server.protocol.decisions.outcomes import Ignored
from durable_streams_server.protocol.lifetime import Lifetime
from durable_streams_server.protocol.limits import MAX_FORK_DEPTH
from durable_streams_server.protocol.state import SoftDeleted
from tests.protocol.decisions.world import (
    ABSENT,
    PRESENT,
    World,
    assert_precondition_fails,
    tag_condition,
)
from tests.requests import NOW, SECOND, append, create, fork_of, of_streams


def test_deleting_the_last_fork_removes_the_whole_chain_of_deleted_sources(world: World) -> None:
    world.decide(create("/0"))
    for depth in range(1, MAX_FORK_DEPTH + 1):
        world.decide(create(f"/{depth}", None, fork=fork_of(f"/{depth - 1}")))
        world.decide(Delete(f"/{depth - 1}"))
    assert len(world.decide(Delete(f"/{MAX_FORK_DEPTH}")).changes) == MAX_FORK_DEPTH + 1
    assert world.states == {}


def test_deleted_source_is_kept_until_its_last_fork_is_deleted(world: World) -> None:
    for path, source in (("/a", None), ("/b", "/a"), ("/c", "/b"), ("/d", "/b")):
        world.decide(create(path, None, fork=fork_of(source) if source else None))
    assert world.decide(Delete("/a")).changes == (
        SoftDeleted("/a", world.states["/a"].incarnation),
    )
    world.decide(Delete("/b"))
    world.refused(Delete("/b"), Gone, "STREAM_GONE")  # TRAPS 27
    world.refused(create("/a"), Conflict, "STREAM_GONE")
    world.refused(create("/e", None, fork=fork_of("/a")), Conflict, "SOURCE_GONE")
    world.decide(Delete("/c"))
    assert set(world.states) == {"/a", "/b", "/d"}
    last = world.decide(Delete("/d"))
    assert [change.path for change in of_streams(last.changes)] == ["/d", "/b", "/a"]
    assert world.states == {}


def test_expired_source_with_forks_refuses_appends_creates_and_forks_as_gone(world: World) -> None:
    world.decide(create("/a", lifetime=Lifetime(ttl=1)))
    world.decide(create("/b", None, lifetime=Lifetime(ttl=100), fork=fork_of("/a")))
    later = NOW + SECOND
    world.refused(append("/a", b"x"), Gone, "STREAM_GONE", later)
    world.refused(create("/a"), Conflict, "STREAM_GONE", later)
    world.refused(create("/c", None, fork=fork_of("/a")), Conflict, "SOURCE_GONE", later)
    swept = world.decide(Expire("/a", world.states["/a"].incarnation), later)
    assert isinstance(swept.changes[0], SoftDeleted)


def test_expire_ends_only_the_named_incarnation_after_its_deadline(world: World) -> None:
    world.decide(create("/a", lifetime=Lifetime(ttl=1)))
    incarnation = world.states["/a"].incarnation
    assert world.decide(Expire("/a", incarnation)).outcome == Ignored()
    assert world.decide(Expire("/a", incarnation - 1), NOW + SECOND).outcome == Ignored()
    assert world.decide(Expire("/b", incarnation), NOW + SECOND).outcome == Ignored()
    assert world.decide(Expire("/a", incarnation), NOW + SECOND).changes != ()


def test_fork_can_be_deleted_after_a_repair_removed_its_source(world: World) -> None:
    world.decide(create("/a"))
    world.decide(create("/b", None, fork=fork_of("/a")))
    world.states.pop("/a")
    world.decide(create("/a"), NOW + SECOND)
    world.decide(create("/c", None, fork=fork_of("/a")))
    world.decide(Delete("/a"))
    assert [change.path for change in of_streams(world.decide(Delete("/b")).changes)] == ["/b"]
    assert world.states["/a"].children == 1


def test_delete_with_if_match_fails_after_the_stream_has_changed(world: World) -> None:
    world.refused(Delete("/a", PRESENT), NotFound, "STREAM_NOT_FOUND")
    world.decide(create("/a"))
    before = tag_condition(world)
    world.decide(append("/a", b"x"))
    assert_precondition_fails(world, Delete("/a", before))
    assert_precondition_fails(world, Delete("/a", ABSENT))
    assert world.decide(Delete("/a", tag_condition(world))).changes
    world.decide(create("/a"))
    assert_precondition_fails(world, Delete("/a", before))  # another stream at the path
    assert world.decide(Delete("/a", PRESENT)).changes
