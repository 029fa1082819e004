"""The rules, on states made by hand: what is decided, in which order refusals come, and that refusals change nothing."""

import msgspec
import pytest

from durable_streams_server.errors import (
    BadRequest,
    Conflict,
    Gone,
    MethodNotAllowed,
    NotFound,
    OffsetMismatch,
    PreconditionFailed,
    SequenceGap,
    StreamClosed,
    StreamError,
    TooManyRequests,
)
from durable_streams_server.protocol.commands import Command, Delete, Expire, Fork
from durable_streams_server.protocol.decide import (
    AppendOutcome,
    CreateOutcome,
    Decision,
    Ignored,
    Rules,
    decide,
    require,
    require_visible,
)
from durable_streams_server.protocol.lifetime import Lifetime
from durable_streams_server.protocol.limits import MAX_FORK_DEPTH, MAX_POSITION, MAX_TIME
from durable_streams_server.protocol.preconditions import Conditions, tag_of
from durable_streams_server.protocol.producers import ProducerState, Stamp
from durable_streams_server.protocol.registry import Registry
from durable_streams_server.protocol.state import (
    Appended,
    Created,
    Removed,
    SoftDeleted,
    StreamState,
    apply,
)
from durable_streams_server.protocol.subscriptions.state import Subscriptions
from tests.requests import NOW, SECOND, append, create, fork_of, of_streams

JSON = "application/json"


class World:
    """Newest states, with each decision applied at once."""

    def __init__(self, rules: Rules | None = None) -> None:
        self.states: dict[str, StreamState] = {}
        self.rules = rules or Rules()
        self.last = 0

    def decide(self, command: Command, now: int = NOW) -> Decision:
        decision = decide(
            self.states, command, now, max(self.last + 1, now), self.rules, Subscriptions()
        )
        for change in of_streams(decision.changes):
            if isinstance(change, Created):
                self.last = max(self.last, change.incarnation)
            state = apply(self.states, change)
            state.publish(change)
        return decision

    def refused(
        self, command: Command, kind: type[StreamError], code: str, now: int = NOW
    ) -> StreamError:
        with pytest.raises(kind) as caught:
            self.decide(command, now)
        assert caught.value.code == code
        return caught.value


@pytest.fixture
def world() -> World:
    return World()


def test_refusals_of_an_append_come_in_the_protocols_order(world: World) -> None:  # TRAPS 24
    """Closed, content type, body, producer, expected offset, Stream-Seq: each hides those after it."""
    world.decide(create("/a", JSON))
    world.decide(append("/a", b"1", JSON, seq=b"5", stamp=Stamp(b"p", 0, 0)))
    gap, stale, elsewhere = Stamp(b"p", 0, 9), b"1", "0000000000000001_0000000000000000"
    everything = append("/a", b"x", "text/plain", stamp=gap, seq=stale, expected=elsewhere)
    world.refused(everything, Conflict, "CONTENT_TYPE_MISMATCH")
    no_json = append("/a", b"{", JSON, stamp=gap, seq=stale, expected=elsewhere)
    world.refused(no_json, BadRequest, "INVALID_JSON")
    gapped = append("/a", b"2", JSON, stamp=gap, seq=stale, expected=elsewhere)
    world.refused(gapped, SequenceGap, "PRODUCER_SEQUENCE_GAP")
    misplaced = append("/a", b"2", JSON, seq=stale, expected=elsewhere)
    world.refused(misplaced, OffsetMismatch, "EXPECTED_OFFSET_MISMATCH")
    world.refused(append("/a", b"2", JSON, seq=stale), Conflict, "SEQUENCE_REGRESSION")
    world.decide(append("/a", closes=True))
    world.refused(everything, StreamClosed, "STREAM_CLOSED")


def test_a_duplicate_passes_a_stream_seq_that_would_be_refused(world: World) -> None:  # TRAPS 24
    world.decide(create("/a"))
    first = append("/a", b"x", seq=b"1", stamp=Stamp(b"p", 0, 0))
    world.decide(first)
    again = world.decide(first)
    assert again.changes == ()
    assert again.outcome == AppendOutcome(
        world.states["/a"].name(1), False, False, ProducerState(0, 0)
    )


def test_a_refusal_at_a_closed_stream_says_so_and_where_it_ends(world: World) -> None:  # TRAPS 23
    world.decide(create("/a", body=b"abc", closes=True))
    error = world.refused(append("/a", b"x"), StreamClosed, "STREAM_CLOSED")
    assert dict(error.headers) == {
        b"stream-next-offset": world.states["/a"].name(3).encode(),
        b"stream-closed": b"true",
    }


def test_only_the_very_close_is_confirmed(world: World) -> None:
    world.decide(create("/a"))
    world.decide(append("/a", b"x", closes=True, stamp=Stamp(b"p", 1, 0)))
    assert world.decide(append("/a", b"x", closes=True, stamp=Stamp(b"p", 1, 0))).changes == ()
    assert world.decide(append("/a", closes=True)).changes == ()
    for stamp in (Stamp(b"p", 1, 1), Stamp(b"p", 0, 0), Stamp(b"q", 1, 0)):
        world.refused(append("/a", closes=True, stamp=stamp), StreamClosed, "STREAM_CLOSED")
    world.refused(append("/a", b"x", closes=True), StreamClosed, "STREAM_CLOSED")


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
def test_a_repeated_create_matches_in_everything_or_conflicts(
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


def test_a_type_left_out_is_octets(world: World) -> None:
    world.decide(create("/a", None))
    assert world.states["/a"].media.essence == "application/octet-stream"
    assert world.decide(create("/a")).changes == ()


def test_a_fork_inherits_type_and_lifetime(world: World) -> None:  # TRAPS 27
    world.decide(create("/a", JSON, b"[1,2]", lifetime=Lifetime(ttl=9)))
    world.decide(create("/b", None, fork=fork_of("/a")))
    world.decide(create("/c", None, lifetime=Lifetime(ttl=5), fork=fork_of("/b")))
    assert world.states["/b"].media == world.states["/a"].media
    assert (world.states["/b"].lifetime.ttl, world.states["/c"].lifetime.ttl) == (9, 5)
    assert [world.states[path].children for path in ("/a", "/b", "/c")] == [1, 1, 0]
    assert world.states["/c"].name(4) == world.states["/a"].name(4)


def test_a_fork_of_another_type_conflicts_and_leaks_nothing(world: World) -> None:  # TRAPS 27
    world.decide(create("/a", JSON))
    world.refused(create("/b", "text/plain", fork=fork_of("/a")), Conflict, "CONTENT_TYPE_MISMATCH")
    assert world.states["/a"].children == 0
    assert isinstance(world.decide(Delete("/a")).changes[0], Removed)


def test_forks_of_forks_have_a_greatest_depth(world: World) -> None:
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


def test_last_of_a_chain_of_deleted_forks_takes_all_of_them_with_it(world: World) -> None:
    world.decide(create("/0"))
    for depth in range(1, MAX_FORK_DEPTH + 1):
        world.decide(create(f"/{depth}", None, fork=fork_of(f"/{depth - 1}")))
        world.decide(Delete(f"/{depth - 1}"))
    assert len(world.decide(Delete(f"/{MAX_FORK_DEPTH}")).changes) == MAX_FORK_DEPTH + 1
    assert world.states == {}


@pytest.mark.parametrize("source", ["/nowhere", "/b"])
def test_a_fork_of_nothing_is_not_found(world: World, source: str) -> None:
    world.refused(create("/b", None, fork=fork_of(source)), NotFound, "SOURCE_NOT_FOUND")


def test_a_fork_offset_that_was_not_resolved_never_means_the_tail(world: World) -> None:
    world.decide(create("/a", body=b"abc"))
    unresolved = fork_of("/a", world.states["/a"].name(1))
    world.refused(create("/b", None, fork=unresolved), NotFound, "SOURCE_NOT_FOUND")


def test_a_fork_position_of_another_life_is_refused(world: World) -> None:
    world.decide(create("/a", body=b"abc"))
    resolved = Fork("/a", None, None, 1, world.states["/a"].incarnation - 1)
    world.refused(create("/b", None, fork=resolved), BadRequest, "INVALID_OFFSET")


def test_a_repeated_fork_is_answered_without_its_source(world: World) -> None:
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


def test_a_deleted_source_stays_for_its_forks_and_goes_with_the_last(world: World) -> None:
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


def test_an_expired_path_can_be_created_again_at_once(world: World) -> None:  # TRAPS 26
    world.decide(create("/a", lifetime=Lifetime(ttl=1)))
    first = world.states["/a"].incarnation
    later = NOW + SECOND
    world.refused(append("/a", b"x"), NotFound, "STREAM_NOT_FOUND", later)
    decision = world.decide(create("/a", JSON), later)
    assert [type(change) for change in decision.changes] == [Removed, Created]
    assert world.states["/a"].incarnation > first


def test_an_expired_source_with_forks_is_gone_and_its_path_kept(world: World) -> None:
    world.decide(create("/a", lifetime=Lifetime(ttl=1)))
    world.decide(create("/b", None, lifetime=Lifetime(ttl=100), fork=fork_of("/a")))
    later = NOW + SECOND
    world.refused(append("/a", b"x"), Gone, "STREAM_GONE", later)
    world.refused(create("/a"), Conflict, "STREAM_GONE", later)
    world.refused(create("/c", None, fork=fork_of("/a")), Conflict, "SOURCE_GONE", later)
    swept = world.decide(Expire("/a", world.states["/a"].incarnation), later)
    assert isinstance(swept.changes[0], SoftDeleted)


def test_the_sweep_ends_only_what_has_run_out(world: World) -> None:
    world.decide(create("/a", lifetime=Lifetime(ttl=1)))
    incarnation = world.states["/a"].incarnation
    assert world.decide(Expire("/a", incarnation)).outcome == Ignored()
    assert world.decide(Expire("/a", incarnation - 1), NOW + SECOND).outcome == Ignored()
    assert world.decide(Expire("/b", incarnation), NOW + SECOND).outcome == Ignored()
    assert world.decide(Expire("/a", incarnation), NOW + SECOND).changes != ()


def test_appends_and_closes_slide_the_lifetime(world: World) -> None:  # TRAPS 26
    world.decide(create("/a", lifetime=Lifetime(ttl=1)))
    world.decide(append("/a", b"x"), NOW + SECOND // 2)
    world.decide(append("/a", closes=True), NOW + SECOND)
    assert world.states["/a"].deadline() == NOW + 2 * SECOND


def test_a_stream_takes_no_position_that_an_offset_cannot_name(world: World) -> None:
    world.decide(create("/a"))
    world.states["/a"].tail = MAX_POSITION
    world.refused(append("/a", b"x"), Conflict, "STREAM_FULL")


def test_a_fork_takes_no_position_that_an_offset_cannot_name(world: World) -> None:
    world.decide(create("/a"))
    world.states["/a"].tail = MAX_POSITION
    world.refused(create("/b", None, b"x", fork=fork_of("/a")), Conflict, "STREAM_FULL")
    world.decide(create("/b", None, fork=fork_of("/a")))


@pytest.mark.parametrize(("now", "kept"), [(-(10**30), 0), (10**30, MAX_TIME)])
def test_a_clock_out_of_range_counts_as_the_end_of_the_range(
    world: World, now: int, kept: int
) -> None:
    decision = decide({}, create("/a", body=b"x"), now, 7, Rules(), Subscriptions())
    begun, first = decision.changes
    assert isinstance(begun, Created)
    assert isinstance(first, Appended)
    assert (begun.at, first.at) == (kept, kept)


def test_a_fork_whose_source_was_put_aside_can_be_deleted(world: World) -> None:
    world.decide(create("/a"))
    world.decide(create("/b", None, fork=fork_of("/a")))
    world.states.pop("/a")
    world.decide(create("/a"), NOW + SECOND)
    world.decide(create("/c", None, fork=fork_of("/a")))
    world.decide(Delete("/a"))
    assert [change.path for change in of_streams(world.decide(Delete("/b")).changes)] == ["/b"]
    assert world.states["/a"].children == 1


def test_the_number_of_producers_is_limited() -> None:
    world = World(Rules(max_producers=1))
    world.decide(create("/a"))
    world.decide(append("/a", b"x", stamp=Stamp(b"p", 0, 0)))
    error = world.refused(
        append("/a", b"x", stamp=Stamp(b"q", 0, 0)), TooManyRequests, "TOO_MANY_PRODUCERS"
    )
    assert error.headers == ((b"retry-after", b"1"),)


@pytest.mark.parametrize("command", [create("/r", JSON), append("/r", b"1", JSON), Delete("/r")])
def test_the_registry_is_written_by_the_server_alone(command: Command) -> None:
    world = World(Rules(registry=Registry("/r")))
    world.decide(create("/a"))
    error = world.refused(command, MethodNotAllowed, "METHOD_NOT_ALLOWED")
    assert error.headers == ((b"allow", b"GET, HEAD, OPTIONS"),)


def test_readers_see_a_delete_only_when_it_is_durable() -> None:
    states: dict[str, StreamState] = {}
    nobody = Subscriptions()
    for change in of_streams(decide(states, create("/a"), NOW, 1, Rules(), nobody).changes):
        state = apply(states, change)
    for change in of_streams(decide(states, Delete("/a"), NOW, 2, Rules(), nobody).changes):
        apply(states, change)
    with pytest.raises(NotFound):
        require(state, NOW)
    assert require_visible(state, NOW) is state
    state.publish(change)
    with pytest.raises(NotFound):
        require_visible(state, NOW)


# -- preconditions (RFC 9110, 13) --------------------------------------------

ANY = (b"*",)
STALE = Conditions((b'"stale"',), None)
ABSENT = Conditions(None, ANY)
PRESENT = Conditions(ANY, None)


def present(world: World, path: str = "/a") -> Conditions:
    return Conditions((tag_of(world.states[path]),), None)


def failed(world: World, command: Command) -> StreamError:
    before = {path: (state.tail, state.closed) for path, state in world.states.items()}
    refusal = world.refused(command, PreconditionFailed, "PRECONDITION_FAILED")
    assert {path: (state.tail, state.closed) for path, state in world.states.items()} == before
    return refusal


def test_append_with_a_tag_is_made_once(world: World) -> None:
    world.decide(create("/a"))
    first = present(world)
    world.decide(append("/a", b"one", conditions=first))
    failed(world, append("/a", b"two", conditions=first))
    failed(world, append("/a", closes=True, conditions=first))
    world.decide(append("/a", b"two", conditions=present(world)))
    world.decide(append("/a", b"three", conditions=PRESENT))
    world.decide(append("/a", closes=True, conditions=present(world)))
    assert (world.states["/a"].tail, world.states["/a"].closed) == (11, True)


def test_append_fails_when_the_state_is_the_one_it_excludes(world: World) -> None:
    world.decide(create("/a"))
    failed(world, append("/a", b"x", conditions=ABSENT))
    failed(world, append("/a", b"x", conditions=Conditions(None, (tag_of(world.states["/a"]),))))
    world.decide(append("/a", b"x", conditions=Conditions(None, (b'"stale"',))))


def test_conditions_come_after_all_other_refusals_of_an_append(world: World) -> None:
    """RFC 9110, 13.2.1: a request that fails anyhow fails for its own reason."""
    world.refused(append("/a", b"x", conditions=PRESENT), NotFound, "STREAM_NOT_FOUND")
    world.decide(create("/a", JSON))
    world.decide(append("/a", b"1", JSON, seq=b"5", stamp=Stamp(b"p", 1, 0)))
    for command, kind, code in (
        (append("/a", b"x", "text/plain", conditions=STALE), Conflict, "CONTENT_TYPE_MISMATCH"),
        (append("/a", b"[", JSON, conditions=STALE), BadRequest, "INVALID_JSON"),
        (append("/a", b"1", JSON, seq=b"5", conditions=STALE), Conflict, "SEQUENCE_REGRESSION"),
        (
            append("/a", b"1", JSON, stamp=Stamp(b"p", 1, 2), conditions=STALE),
            SequenceGap,
            "PRODUCER_SEQUENCE_GAP",
        ),
        (
            append(
                "/a", b"1", JSON, expected="0000000000000001_0000000000000001", conditions=STALE
            ),
            OffsetMismatch,
            "EXPECTED_OFFSET_MISMATCH",
        ),
    ):
        world.refused(command, kind, code)
    world.decide(append("/a", closes=True))
    world.refused(append("/a", b"1", JSON, conditions=STALE), StreamClosed, "STREAM_CLOSED")


def test_change_that_was_made_already_is_confirmed_whatever_its_condition(world: World) -> None:
    """RFC 9110, 13.1.1: the client did not hear of its own success, which has changed the tag."""
    world.decide(create("/a"))
    first = present(world)
    stamped = append("/a", b"x", stamp=Stamp(b"p", 0, 0), conditions=first)
    world.decide(stamped)
    assert world.decide(stamped).changes == ()
    closing = append("/a", closes=True, conditions=present(world))
    world.decide(closing)
    assert world.decide(closing).changes == ()


def test_create_only_if_nothing_is_there(world: World) -> None:
    assert world.decide(create("/a", body=b"x", conditions=ABSENT)).changes
    refusal = failed(world, create("/a", body=b"x", conditions=ABSENT))
    assert dict(refusal.headers)[b"etag"] == tag_of(world.states["/a"])
    failed(world, create("/a", JSON, conditions=ABSENT))  # also where the PUT itself would conflict
    world.decide(Delete("/a"))
    assert world.decide(create("/a", JSON, conditions=ABSENT)).changes


def test_create_where_something_must_be_is_refused(world: World) -> None:
    for conditions in (PRESENT, STALE):
        failed(world, create("/a", conditions=conditions))
        failed(world, create("/a", conditions=conditions, lifetime=Lifetime(ttl=5)))
    assert world.states == {}
    world.decide(create("/a"))
    assert world.decide(create("/a", conditions=present(world))).changes == ()
    failed(world, create("/a", conditions=STALE))


def test_expired_stream_is_none_to_a_precondition(world: World) -> None:
    world.decide(create("/a", lifetime=Lifetime(ttl=5)))
    later = NOW + 6 * SECOND
    world.refused(
        create("/a", conditions=PRESENT), PreconditionFailed, "PRECONDITION_FAILED", later
    )
    assert world.decide(create("/a", conditions=ABSENT), later).changes


def test_other_refusals_of_a_create_come_before_that_nothing_is_there(world: World) -> None:
    fork = create("/b", None, fork=fork_of("/nowhere"), conditions=PRESENT)
    world.refused(fork, NotFound, "SOURCE_NOT_FOUND")
    world.refused(create("/b", JSON, b"[", conditions=PRESENT), BadRequest, "INVALID_JSON")


def test_delete_with_a_tag_spares_a_stream_that_has_changed(world: World) -> None:
    world.refused(Delete("/a", PRESENT), NotFound, "STREAM_NOT_FOUND")
    world.decide(create("/a"))
    before = present(world)
    world.decide(append("/a", b"x"))
    failed(world, Delete("/a", before))
    failed(world, Delete("/a", ABSENT))
    assert world.decide(Delete("/a", present(world))).changes
    world.decide(create("/a"))
    failed(world, Delete("/a", before))  # another stream at the path
    assert world.decide(Delete("/a", PRESENT)).changes
