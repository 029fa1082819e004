"""Tests of the commands of workers: claims, acks, heartbeats and releases, and which of them are fenced."""

import pytest

from durable_streams_server.errors import (
    AlreadyClaimed,
    BadRequest,
    Conflict,
    Fenced,
    NotFound,
    StreamError,
)
from durable_streams_server.protocol.commands import Delete
from durable_streams_server.protocol.offsets import ZERO, parse
from durable_streams_server.protocol.subscriptions.changes import (
    CursorsMoved,
    LinkedStream,
    WakeChanged,
)
from durable_streams_server.protocol.subscriptions.commands import (
    Acknowledge,
    Claim,
    Grant,
    Release,
    Tend,
    Unsubscribe,
)
from durable_streams_server.protocol.subscriptions.outcomes import AckOutcome
from tests.protocol.subscriptions.world import JSON, LEASE, ROOT, A, B, World
from tests.requests import NOW, SECOND, append, create, fork_of

START = str(ZERO)


def release(world: World) -> Release:
    """Returns the release of the wake in flight."""
    grant = world.grant()
    return Release(grant, grant.generation, world.wake().wake_id)


def test_claim_gives_the_wake_to_the_worker_and_begins_a_lease(woken: World) -> None:
    view = woken.claim(worker="one")
    assert view.generation == 1
    assert view.wake == woken.wake()
    assert (woken.wake().holder, woken.wake().lease_until) == ("one", NOW + LEASE)
    assert view.streams == (
        LinkedStream(A, False, woken.states[A].name(0), woken.states[A].name(2)),
    )


def test_claim_without_a_wake_is_refused(world: World) -> None:
    world.subscribe()
    world.refused(Claim("s", "w"), Conflict, "NOTHING_TO_CLAIM")


def test_refused_claim_of_a_claimed_wake_names_its_worker(woken: World) -> None:
    woken.claim(worker="one")
    for worker in ("two", "one"):
        error = woken.refused(Claim("s", worker), AlreadyClaimed, "ALREADY_CLAIMED")
        assert error.details == {"current_holder": "one", "generation": 1}


def test_claim_of_a_webhook_subscription_is_refused(hooked: World) -> None:
    hooked.refused(Claim("s", "w"), BadRequest, "NOT_PULL_WAKE")


def test_claim_after_an_ended_lease_begins_the_next_wake(
    woken: World,
) -> None:
    woken.claim(worker="one")
    old = woken.acknowledging(done=True)
    woken.forward(LEASE - 1)
    woken.refused(Claim("s", "two"), AlreadyClaimed, "ALREADY_CLAIMED")
    woken.forward(1)
    view = woken.claim(worker="two")
    assert view.generation == 2
    assert woken.wake().wake_id != old.wake_id
    woken.refused(old, Fenced, "FENCED")
    assert woken.decide(Tend("s")).changes == ()


def test_claim_after_an_ended_lease_is_refused_without_unread_bytes(woken: World) -> None:
    woken.claim()
    woken.do(woken.acknowledging((A, woken.tail(A))))
    woken.forward(LEASE)
    woken.refused(Claim("s", "two"), Conflict, "NOTHING_TO_CLAIM")


def test_ack_moves_the_cursor_and_renews_the_lease(woken: World) -> None:
    woken.append_to(A, A)
    woken.claim()
    woken.forward(SECOND)
    name = woken.states[A].name(4)
    decision = woken.decide(woken.acknowledging((A, name)))
    assert decision.outcome == AckOutcome(next_wake=False)
    assert decision.changes[0] == CursorsMoved("s", ((A, parse(name)),))
    assert woken.due() == {A: 4}
    assert woken.wake().lease_until == NOW + SECOND + LEASE
    assert woken.wake().holder == "w"


def test_heartbeat_moves_no_cursor(woken: World) -> None:
    woken.claim()
    woken.forward(SECOND)
    changes = woken.decide(woken.acknowledging()).changes
    assert [type(change) for change in changes] == [WakeChanged]
    assert woken.due() == {A: 0}


def test_ack_of_the_tail_drops_the_cursor(woken: World) -> None:
    woken.claim()
    decision = woken.decide(woken.acknowledging((A, woken.tail(A)), done=True))
    assert decision.outcome == AckOutcome(next_wake=False)
    assert (woken.subscription().wake, woken.due()) == (None, {})
    assert woken.subscription().generation == 1


def test_ack_of_an_earlier_offset_does_not_move_the_cursor_back(woken: World) -> None:
    woken.append_to(A, A)
    woken.claim()
    names = [woken.states[A].name(position) for position in (0, 2, 4)]
    woken.do(woken.acknowledging((A, names[2])), woken.acknowledging((A, names[1])))
    woken.do(woken.acknowledging((A, names[0])), woken.acknowledging((A, START)))
    assert woken.due() == {A: 4}


def test_greater_offset_is_used_when_one_request_acks_a_stream_twice(woken: World) -> None:
    woken.append_to(A, A)
    woken.claim()
    near, far, tail = (woken.states[A].name(position) for position in (2, 4, 6))
    woken.do(woken.acknowledging((A, far), (A, near)))
    assert woken.due() == {A: 4}
    woken.do(woken.acknowledging((A, tail), (A, far)))
    assert woken.due() == {}


@pytest.mark.parametrize("past", ["position", "incarnation"])
def test_request_with_an_invalid_ack_changes_no_cursor(woken: World, past: str) -> None:
    woken.append_to(B)
    woken.claim()
    known = parse(woken.tail(A))
    worse = (
        known._replace(position=known.position + 1)
        if past == "position"
        else known._replace(incarnation=woken.last + 1)
    )
    command = woken.acknowledging((B, woken.tail(B)), (A, str(worse)), done=True)
    woken.refused(command, BadRequest, "INVALID_OFFSET")
    assert woken.due() == {A: 0, B: 0}
    assert woken.wake().holder == "w"


def test_ack_of_a_stream_without_cursor_is_ignored(woken: World) -> None:
    woken.streams(f"{ROOT}/else/x")
    woken.claim()
    far = str(parse(woken.tail(B))._replace(position=99))
    acks = [(B, woken.tail(B)), (f"{ROOT}/else/x", far), (f"{ROOT}/nowhere", START)]
    changes = woken.decide(woken.acknowledging(*acks)).changes
    assert [type(change) for change in changes] == [WakeChanged]


def test_ack_of_a_deleted_stream_is_ignored(woken: World) -> None:
    woken.claim()
    tail = woken.tail(A)
    woken.do(Delete(A))
    decision = woken.decide(woken.acknowledging((A, tail), done=True))
    assert decision.outcome == AckOutcome(next_wake=False)
    assert woken.subscription().wake is None


def test_ack_of_an_earlier_incarnation_is_ignored(woken: World) -> None:
    woken.claim()
    tail = woken.tail(A)
    woken.do(Delete(A), create(A, JSON, b"[1,2,3]"))
    assert woken.due() == {A: 0}
    decision = woken.decide(woken.acknowledging((A, tail), done=True))
    assert decision.outcome == AckOutcome(next_wake=True)
    assert woken.due() == {A: 0}


def test_done_begins_the_next_wake_while_bytes_are_unread(woken: World) -> None:
    woken.claim()
    seen = woken.tail(A)
    woken.append_to(A)
    decision = woken.decide(woken.acknowledging((A, seen), done=True))
    assert decision.outcome == AckOutcome(next_wake=True)
    assert woken.due() == {A: 2}
    assert (woken.subscription().generation, woken.wake().holder) == (2, None)
    assert woken.announced() == [("s", "events/a", 1), ("s", "events/a", 2)]


def test_done_without_acks_begins_the_next_wake(woken: World) -> None:
    woken.claim()
    outcome = woken.decide(woken.acknowledging(done=True)).outcome
    assert outcome == AckOutcome(next_wake=True)


def test_ack_in_a_fork_accepts_offsets_of_its_source(world: World) -> None:
    world.subscribe(pattern="forks/*")
    fork = f"{ROOT}/forks/f"
    world.do(append(A, b"[1,2]", JSON), create(fork, None, fork=fork_of(A)))
    world.do(append(fork, b"[3,4]", JSON))
    view = world.claim()
    assert view.streams[0].acked == world.tail(A)
    world.do(world.acknowledging((fork, world.tail(A))))
    assert world.due() == {fork: 4}
    world.do(world.acknowledging((fork, world.states[fork].name(6))))
    assert world.due() == {fork: 6}


def test_release_begins_the_next_wake_while_bytes_are_unread(woken: World) -> None:
    woken.claim()
    woken.do(release(woken))
    assert (woken.subscription().generation, woken.wake().holder) == (2, None)
    woken.claim()
    woken.do(woken.acknowledging((A, woken.tail(A))), release(woken))
    assert woken.subscription().wake is None
    assert [generation for *_, generation in woken.announced()] == [1, 2]


def test_done_drops_the_cursor_of_a_stream_that_a_repair_removed(woken: World) -> None:
    woken.claim()
    del woken.states[A]  # a repair removes a stream without recording a change
    assert woken.decide(woken.acknowledging(done=True)).outcome == AckOutcome(next_wake=False)
    assert (woken.due(), woken.subscription().wake) == ({}, None)


@pytest.mark.parametrize("what", ["generation", "wake_id", "grant", "incarnation", "future"])
@pytest.mark.parametrize("kind", [Acknowledge, Release])
def test_request_that_names_another_wake_is_fenced(
    woken: World, kind: type[Acknowledge | Release], what: str
) -> None:
    woken.claim()
    woken.do(woken.acknowledging(done=True))
    woken.claim()
    grant, wake_id = woken.grant(), woken.wake().wake_id
    generation = grant.generation
    if what == "generation":
        generation -= 1
    elif what == "wake_id":
        wake_id = wake_id[:-1] + "1"
    elif what == "incarnation":
        grant = Grant("s", grant.incarnation - 1, grant.generation)
    else:
        change = -1 if what == "grant" else 1
        grant = Grant("s", grant.incarnation, grant.generation + change)
    woken.refused(kind(grant, generation, wake_id), Fenced, "FENCED")
    assert woken.wake().holder == "w"


def test_request_of_a_deleted_subscription_is_fenced_once_its_id_is_used_again(
    woken: World,
) -> None:
    woken.claim()
    ack, back = woken.acknowledging((A, woken.tail(A)), done=True), release(woken)
    woken.do(Unsubscribe("s"))
    woken.refused(ack, NotFound, "SUBSCRIPTION_NOT_FOUND")
    woken.subscribe()
    woken.refused(ack, Fenced, "FENCED")
    woken.append_to(A)
    woken.claim()
    assert woken.grant().generation == ack.generation
    woken.refused(ack, Fenced, "FENCED")
    woken.refused(back, Fenced, "FENCED")
    woken.forward(LEASE)
    assert woken.due() == {A: 2}


@pytest.mark.parametrize("moment", ["unclaimed", "over", "done"])
def test_request_about_an_unclaimed_or_ended_wake_is_fenced(woken: World, moment: str) -> None:
    if moment == "unclaimed":
        commands = [woken.acknowledging(done=True), release(woken)]
    else:
        woken.claim()
        commands = [woken.acknowledging(done=True), release(woken)]
        if moment == "over":
            woken.forward(LEASE)
        else:
            woken.do(woken.acknowledging((A, woken.tail(A)), done=True))
    for command in commands:
        woken.refused(command, Fenced, "FENCED")


@pytest.mark.parametrize("kind", [Fenced, AlreadyClaimed])
def test_fenced_and_already_claimed_errors_have_status_409(kind: type[StreamError]) -> None:
    assert kind("").status == 409
