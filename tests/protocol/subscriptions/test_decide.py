"""Who may do what to a wake, and what comes of it: tables of claims, acks, releases, lapses and deliveries."""

from typing import Any, cast

import msgspec
import pytest

from durable_streams_server.errors import (
    AlreadyClaimed,
    BadRequest,
    Conflict,
    Fenced,
    NotFound,
    StreamError,
    TooManyRequests,
)
from durable_streams_server.protocol.commands import Delete
from durable_streams_server.protocol.decide import Rules
from durable_streams_server.protocol.limits import MAX_TIME
from durable_streams_server.protocol.offsets import ZERO, parse
from durable_streams_server.protocol.registry import Registry
from durable_streams_server.protocol.signing import Key
from durable_streams_server.protocol.subscriptions import commands, decide, views
from durable_streams_server.protocol.subscriptions.changes import (
    CursorsMoved,
    LinkedStream,
    Relinked,
    Subscribed,
    Unsubscribed,
    WakeChanged,
)
from durable_streams_server.protocol.subscriptions.commands import (
    Acknowledge,
    Claim,
    Delivered,
    Grant,
    KeepKeys,
    Link,
    Look,
    Release,
    SubscriptionCommand,
    Tend,
    Undelivered,
    Unlink,
    Unsubscribe,
)
from durable_streams_server.protocol.subscriptions.decide import (
    AckOutcome,
    Done,
    KeysOutcome,
    SubscribeOutcome,
)
from durable_streams_server.protocol.subscriptions.views import View
from tests.protocol.subscriptions.world import (
    JSON,
    LEASE,
    POOL,
    ROOT,
    A,
    B,
    C,
    World,
    subscribe,
)
from tests.requests import NOW, SECOND, append, create, fork_of

START = str(ZERO)


@pytest.fixture
def world() -> World:
    """Three streams, and nothing that watches them."""
    made = World()
    made.streams(POOL, A, B)
    return made


@pytest.fixture
def woken(world: World) -> World:
    """A pull-wake subscription with news of one value in `events/a`."""
    world.subscribe()
    world.news(A)
    return world


@pytest.fixture
def hooked(world: World) -> World:
    """A webhook subscription with news of one value in `events/a`."""
    world.subscribe(type="webhook")
    world.news(A)
    return world


def release(world: World) -> Release:
    grant = world.grant()
    return Release(grant, grant.generation, world.wake().wake_id)


# -- subscribe --------------------------------------------------------------


def test_a_put_makes_a_subscription_and_the_same_put_confirms_it(world: World) -> None:
    first = world.decide(subscribe(description="d"))
    outcome = cast(SubscribeOutcome, first.outcome)
    assert [type(change) for change in first.changes] == [Subscribed]
    assert (outcome.created, outcome.view.created_at, outcome.view.status) == (True, NOW, "active")
    world.forward(SECOND)
    again = world.decide(subscribe(description="d"))
    assert again.changes == ()
    assert again.outcome == SubscribeOutcome(outcome.view, False)


FULL: dict[str, Any] = {
    "type": "pull-wake",
    "pattern": "events/*",
    "streams": ["x"],
    "wake_stream": "wake/pool",
    "lease_ttl_ms": 5000,
    "description": "d",
}


@pytest.mark.parametrize(
    "other",
    [
        {"pattern": "events/**"},
        {"pattern": None},
        {"streams": ["y"]},
        {"streams": ["x", "y"]},
        {"streams": None},
        {"wake_stream": "wake/other"},
        {"lease_ttl_ms": 5001},
        {"description": "e"},
        {"description": None},
        {"description": ""},
        {"type": "webhook", "wake_stream": None, "webhook": {"url": "https://a.example/"}},
    ],
)
def test_a_put_that_differs_in_one_field_is_a_conflict(
    world: World, other: dict[str, object]
) -> None:
    world.do(subscribe(**FULL))
    command = commands.parse_subscribe("s", msgspec.json.encode({**FULL, **other}), ROOT)
    world.refused(command, Conflict, "SUBSCRIPTION_EXISTS")


def test_another_webhook_url_is_a_conflict(world: World) -> None:
    world.subscribe(type="webhook", webhook={"url": "https://a.example/"})
    other = subscribe(type="webhook", webhook={"url": "https://b.example/"})
    world.refused(other, Conflict, "SUBSCRIPTION_EXISTS")


def test_what_is_left_out_is_its_default(world: World) -> None:
    world.subscribe()
    again = world.decide(
        subscribe(lease_ttl_ms=30_000, description=None, streams=None, pattern="events/*")
    )
    assert again.changes == ()


def test_links_added_later_do_not_change_what_a_put_is_compared_with(world: World) -> None:
    world.subscribe(streams=["events/a"])
    world.do(Link("s", (B,)), Unlink("s", A))
    assert world.decide(subscribe(streams=["events/a"])).changes == ()
    assert list(world.subscription().streams) == [B]


def test_there_is_a_most_of_subscriptions(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decide, "MAX_SUBSCRIPTIONS", 2)
    world.subscribe("s")
    world.subscribe("t")
    error = world.refused(subscribe("u"), TooManyRequests, "TOO_MANY_SUBSCRIPTIONS")
    assert dict(error.headers) == {b"retry-after": b"1"}
    world.do(subscribe("s"), Unsubscribe("t"), subscribe("u"))


def test_a_wake_stream_of_another_kind_is_refused(world: World) -> None:
    world.do(create(f"{ROOT}/wake/text", "text/plain"))
    world.refused(subscribe(wake_stream="wake/text"), BadRequest, "INVALID_WAKE_STREAM")
    assert len(world.subscriptions) == 0
    world.subscribe(wake_stream="wake/none-yet")


def test_the_registry_is_no_wake_stream() -> None:
    world = World(Rules(registry=Registry(f"{ROOT}/registry")))
    world.refused(subscribe(wake_stream="registry"), BadRequest, "INVALID_WAKE_STREAM")


def test_deletion_ends_all_and_a_new_one_begins_anew(woken: World) -> None:
    first = woken.subscription()
    changes = woken.decide(Unsubscribe("s")).changes
    assert changes == (Unsubscribed("s", first.incarnation),)
    woken.refused(Unsubscribe("s"), NotFound, "SUBSCRIPTION_NOT_FOUND")
    second = woken.subscribe()
    assert second.incarnation > first.incarnation
    assert (second.generation, second.wake, second.due) == (0, None, {})


@pytest.mark.parametrize(
    "command",
    [
        Unsubscribe("no"),
        Link("no", (A,)),
        Unlink("no", A),
        Look("no"),
        Claim("no", "w"),
        Acknowledge(Grant("no", 1, 1), 1, "w"),
        Release(Grant("no", 1, 1), 1, "w"),
    ],
)
def test_there_is_nothing_to_do_with_what_is_not_there(
    world: World, command: SubscriptionCommand
) -> None:
    world.refused(command, NotFound, "SUBSCRIPTION_NOT_FOUND")


@pytest.mark.parametrize(
    "command",
    [
        Delivered(Grant("no", 1, 1), NOW),
        Undelivered(Grant("no", 1, 1), NOW, "refused", ()),
    ],
)
def test_the_servers_own_commands_come_too_late_without_an_error(
    world: World, command: SubscriptionCommand
) -> None:
    decision = world.decide(command)
    assert (decision.changes, decision.outcome) == ((), Done())


# -- links ------------------------------------------------------------------


def test_links_are_added_once_and_removed_once(world: World) -> None:
    world.subscribe(streams=["events/a"])
    assert world.decide(Link("s", (A, B))).changes == (Relinked("s", ("events/b",), ()),)
    assert world.decide(Link("s", (A, B))).changes == ()
    assert world.decide(Unlink("s", A)).changes == (Relinked("s", (), ("events/a",)),)
    assert world.decide(Unlink("s", A)).changes == ()


def test_a_subscription_cannot_be_linked_to_its_own_wake_stream(world: World) -> None:
    world.subscribe(streams=["events/a"])
    world.refused(Link("s", (B, POOL)), BadRequest, "INVALID_SUBSCRIPTION")
    assert list(world.subscription().streams) == [A]


def test_there_is_a_most_of_links(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decide, "MAX_LINKS", 2)
    world.subscribe(streams=["events/a"])
    world.refused(Link("s", (B, C)), TooManyRequests, "TOO_MANY_LINKS")
    world.do(Link("s", (A, B)), Link("s", (A, B)))


def test_a_name_takes_precedence_over_a_pattern(woken: World) -> None:
    def types() -> dict[str, bool]:
        view = cast(View, woken.decide(Look("s")).outcome)
        return {stream.path: stream.explicit for stream in view.streams}

    woken.news(B)
    assert types() == {A: False, B: False}
    woken.do(Link("s", (A,)))
    assert types() == {A: True, B: False}
    woken.do(Unlink("s", A))
    assert types() == {A: False, B: False}
    assert woken.due() == {A: 0, B: 0}


# -- look -------------------------------------------------------------------


def test_a_look_tells_of_streams_with_news_first_and_of_absent_ones_at_the_start(
    world: World,
) -> None:
    world.news(A, A)
    world.subscribe(streams=["else/absent", "events/a", "events/b"])
    acked = world.tail(B)
    world.news(B)
    view = cast(View, world.decide(Look("s")).outcome)
    absent = f"{ROOT}/else/absent"
    assert view.streams == (
        LinkedStream(B, True, acked, world.tail(B)),
        LinkedStream(absent, True, START, START),
        LinkedStream(A, True, world.tail(A), world.tail(A)),
    )


def test_a_look_tells_of_a_bounded_number(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "MAX_LISTED", 2)
    world.subscribe(streams=["x", "y", "z"], pattern="events/*")
    world.news(A)
    view = cast(View, world.decide(Look("s")).outcome)
    assert [stream.path for stream in view.streams] == [A, f"{ROOT}/x"]


def test_a_soft_deleted_stream_is_told_of_as_absent(world: World) -> None:
    world.subscribe(streams=["events/a"])
    world.do(append(A, b"1", JSON), create(f"{ROOT}/f", None, fork=fork_of(A)), Delete(A))
    view = cast(View, world.decide(Look("s")).outcome)
    assert view.streams == (LinkedStream(A, True, START, START),)


# -- claim ------------------------------------------------------------------


def test_a_claim_takes_the_wake_and_begins_a_lease(woken: World) -> None:
    view = woken.claim(worker="one")
    assert view.generation == 1
    assert view.wake == woken.wake()
    assert (woken.wake().holder, woken.wake().lease_until) == ("one", NOW + LEASE)
    assert view.streams == (
        LinkedStream(A, False, woken.states[A].name(0), woken.states[A].name(2)),
    )


def test_a_claim_of_nothing_is_refused(world: World) -> None:
    world.subscribe()
    world.refused(Claim("s", "w"), Conflict, "NOTHING_TO_CLAIM")


def test_a_claim_of_what_is_held_names_the_holder(woken: World) -> None:
    woken.claim(worker="one")
    for worker in ("two", "one"):
        error = woken.refused(Claim("s", worker), AlreadyClaimed, "ALREADY_CLAIMED")
        assert error.details == {"current_holder": "one", "generation": 1}


def test_a_webhook_cannot_be_claimed(hooked: World) -> None:
    hooked.refused(Claim("s", "w"), BadRequest, "NOT_PULL_WAKE")


def test_a_lease_that_is_over_can_be_taken_over_at_once(woken: World) -> None:
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


def test_a_lease_that_is_over_without_news_leaves_nothing_to_claim(woken: World) -> None:
    woken.claim()
    woken.do(woken.acknowledging((A, woken.tail(A))))
    woken.forward(LEASE)
    woken.refused(Claim("s", "two"), Conflict, "NOTHING_TO_CLAIM")


# -- acknowledge ------------------------------------------------------------


def test_an_ack_moves_the_cursor_and_prolongs_the_lease(woken: World) -> None:
    woken.news(A, A)
    woken.claim()
    woken.forward(SECOND)
    name = woken.states[A].name(4)
    decision = woken.decide(woken.acknowledging((A, name)))
    assert decision.outcome == AckOutcome(next_wake=False)
    assert decision.changes[0] == CursorsMoved("s", ((A, parse(name)),))
    assert woken.due() == {A: 4}
    assert woken.wake().lease_until == NOW + SECOND + LEASE
    assert woken.wake().holder == "w"


def test_a_heartbeat_moves_no_cursor(woken: World) -> None:
    woken.claim()
    woken.forward(SECOND)
    changes = woken.decide(woken.acknowledging()).changes
    assert [type(change) for change in changes] == [WakeChanged]
    assert woken.due() == {A: 0}


def test_an_ack_of_the_tail_ends_the_news(woken: World) -> None:
    woken.claim()
    decision = woken.decide(woken.acknowledging((A, woken.tail(A)), done=True))
    assert decision.outcome == AckOutcome(next_wake=False)
    assert (woken.subscription().wake, woken.due()) == (None, {})
    assert woken.subscription().generation == 1


def test_cursors_never_move_back(woken: World) -> None:
    woken.news(A, A)
    woken.claim()
    names = [woken.states[A].name(position) for position in (0, 2, 4)]
    woken.do(woken.acknowledging((A, names[2])), woken.acknowledging((A, names[1])))
    woken.do(woken.acknowledging((A, names[0])), woken.acknowledging((A, START)))
    assert woken.due() == {A: 4}


def test_of_two_acks_of_one_stream_in_one_request_the_further_counts(woken: World) -> None:
    woken.news(A, A)
    woken.claim()
    near, far, tail = (woken.states[A].name(position) for position in (2, 4, 6))
    woken.do(woken.acknowledging((A, far), (A, near)))
    assert woken.due() == {A: 4}
    woken.do(woken.acknowledging((A, tail), (A, far)))
    assert woken.due() == {}


@pytest.mark.parametrize("past", ["position", "incarnation"])
def test_an_ack_of_what_is_not_there_is_refused_whole(woken: World, past: str) -> None:
    woken.news(B)
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


def test_an_ack_of_a_stream_without_news_or_link_is_passed_over(woken: World) -> None:
    woken.streams(f"{ROOT}/else/x")
    woken.claim()
    far = str(parse(woken.tail(B))._replace(position=99))
    acks = [(B, woken.tail(B)), (f"{ROOT}/else/x", far), (f"{ROOT}/nowhere", START)]
    changes = woken.decide(woken.acknowledging(*acks)).changes
    assert [type(change) for change in changes] == [WakeChanged]


def test_an_ack_of_a_deleted_stream_is_passed_over(woken: World) -> None:
    woken.claim()
    tail = woken.tail(A)
    woken.do(Delete(A))
    decision = woken.decide(woken.acknowledging((A, tail), done=True))
    assert decision.outcome == AckOutcome(next_wake=False)
    assert woken.subscription().wake is None


def test_an_ack_of_a_streams_earlier_life_is_passed_over(woken: World) -> None:
    woken.claim()
    tail = woken.tail(A)
    woken.do(Delete(A), create(A, JSON, b"[1,2,3]"))
    assert woken.due() == {A: 0}
    decision = woken.decide(woken.acknowledging((A, tail), done=True))
    assert decision.outcome == AckOutcome(next_wake=True)
    assert woken.due() == {A: 0}


def test_done_with_more_news_begins_the_next_wake(woken: World) -> None:
    woken.claim()
    seen = woken.tail(A)
    woken.news(A)
    decision = woken.decide(woken.acknowledging((A, seen), done=True))
    assert decision.outcome == AckOutcome(next_wake=True)
    assert woken.due() == {A: 2}
    assert (woken.subscription().generation, woken.wake().holder) == (2, None)
    assert woken.announced() == [("s", "events/a", 1), ("s", "events/a", 2)]


def test_done_without_acks_is_woken_again(woken: World) -> None:
    woken.claim()
    outcome = woken.decide(woken.acknowledging(done=True)).outcome
    assert outcome == AckOutcome(next_wake=True)


def test_an_ack_within_a_fork_takes_its_sources_names(world: World) -> None:
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


# -- release and lapse ------------------------------------------------------


def test_a_release_is_followed_by_another_wake_while_there_is_news(woken: World) -> None:
    woken.claim()
    woken.do(release(woken))
    assert (woken.subscription().generation, woken.wake().holder) == (2, None)
    woken.claim()
    woken.do(woken.acknowledging((A, woken.tail(A))), release(woken))
    assert woken.subscription().wake is None
    assert [generation for *_, generation in woken.announced()] == [1, 2]


def test_a_lapse_ends_only_what_is_over(woken: World) -> None:
    woken.claim()
    lapse = Tend("s")
    woken.forward(LEASE - 1)
    assert woken.decide(lapse).changes == ()
    woken.forward(1)
    woken.do(lapse)
    assert (woken.subscription().generation, woken.wake().holder) == (2, None)
    assert woken.decide(lapse).changes == ()
    assert len(woken.events()) == 2


def test_a_lapse_without_news_ends_the_wake(woken: World) -> None:
    woken.claim()
    woken.do(woken.acknowledging((A, woken.tail(A))))
    woken.forward(LEASE)
    woken.do(Tend("s"))
    assert woken.subscription().wake is None


def test_news_of_a_stream_that_was_put_aside_is_forgotten_at_the_end(woken: World) -> None:
    woken.claim()
    del woken.states[A]  # as a repair does, without a change
    assert woken.decide(woken.acknowledging(done=True)).outcome == AckOutcome(next_wake=False)
    assert (woken.due(), woken.subscription().wake) == ({}, None)


# -- fences -----------------------------------------------------------------


@pytest.mark.parametrize("what", ["generation", "wake_id", "grant", "incarnation", "future"])
@pytest.mark.parametrize("kind", [Acknowledge, Release])
def test_a_request_must_name_its_wake_wholly(
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


def test_what_was_about_a_deleted_subscription_is_fenced_at_its_successor(woken: World) -> None:
    woken.claim()
    ack, back = woken.acknowledging((A, woken.tail(A)), done=True), release(woken)
    woken.do(Unsubscribe("s"))
    woken.refused(ack, NotFound, "SUBSCRIPTION_NOT_FOUND")
    woken.subscribe()
    woken.refused(ack, Fenced, "FENCED")
    woken.news(A)
    woken.claim()
    assert woken.grant().generation == ack.generation
    woken.refused(ack, Fenced, "FENCED")
    woken.refused(back, Fenced, "FENCED")
    woken.forward(LEASE)
    assert woken.due() == {A: 2}


@pytest.mark.parametrize("moment", ["unclaimed", "over", "done"])
def test_nobody_acts_on_a_wake_that_is_not_held(woken: World, moment: str) -> None:
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


# -- webhooks ---------------------------------------------------------------


def test_a_delivery_that_was_taken_begins_a_lease_when_it_was_sent(hooked: World) -> None:
    hooked.forward(5 * SECOND)
    hooked.do(Delivered(hooked.grant(), NOW + SECOND))
    wake = hooked.wake()
    assert (wake.next_attempt, wake.lease_until, wake.attempts) == (None, NOW + SECOND + LEASE, 0)
    assert hooked.decide(Delivered(hooked.grant(), NOW + 2 * SECOND)).changes == ()
    hooked.forward(SECOND + LEASE)
    hooked.do(Tend("s"))
    assert (hooked.subscription().generation, hooked.wake().next_attempt) == (2, hooked.now)


def test_a_callback_may_come_before_the_deliverys_answer(hooked: World) -> None:
    hooked.forward(SECOND)
    hooked.do(hooked.acknowledging())
    held = hooked.wake()
    assert (held.next_attempt, held.lease_until) == (None, NOW + SECOND + LEASE)
    assert hooked.decide(Delivered(hooked.grant(), NOW)).changes == ()
    assert hooked.wake() == held


def test_failure_after_a_heartbeat_is_retried_with_back_off(hooked: World) -> None:
    hooked.do(hooked.acknowledging(), Undelivered(hooked.grant(), NOW + SECOND, "refused", ()))
    wake = hooked.wake()
    assert (wake.next_attempt, wake.lease_until, wake.attempts) == (NOW + SECOND, None, 1)


def test_done_may_come_before_the_deliverys_answer(hooked: World) -> None:
    grant = hooked.grant()
    hooked.do(hooked.acknowledging((A, hooked.tail(A)), done=True))
    assert hooked.decide(Delivered(grant, NOW)).changes == ()
    assert hooked.decide(Undelivered(grant, NOW, "refused", ())).changes == ()
    hooked.news(A)
    assert hooked.subscription().generation == 2


def test_a_delivery_that_failed_is_tried_again_as_the_same_wake(hooked: World) -> None:
    grant, wake = hooked.grant(), hooked.wake()
    hooked.do(Undelivered(grant, NOW + SECOND, "refused", ()))
    assert (hooked.grant(), hooked.wake().wake_id) == (grant, wake.wake_id)
    assert (hooked.wake().next_attempt, hooked.wake().attempts) == (NOW + SECOND, 1)
    assert hooked.wake().problem == "refused"
    hooked.do(Undelivered(grant, NOW + 3 * SECOND, "refused", ()))
    assert hooked.wake().attempts == 2
    hooked.do(Delivered(grant, NOW))
    assert hooked.wake().problem is None


def test_a_delivery_that_took_too_long_is_tried_again_as_another_wake(hooked: World) -> None:
    first = hooked.acknowledging((A, hooked.tail(A)), done=True)
    hooked.do(Undelivered(first.grant, NOW + SECOND, "refused", None))
    assert (hooked.subscription().generation, hooked.wake().attempts) == (2, 1)
    assert hooked.wake().wake_id != first.wake_id
    hooked.refused(first, Fenced, "FENCED")
    assert hooked.decide(Undelivered(first.grant, NOW, "refused", ())).changes == ()


def test_a_callback_during_the_back_off_takes_the_wake(hooked: World) -> None:
    hooked.do(Undelivered(hooked.grant(), NOW + SECOND, "refused", ()))
    hooked.do(hooked.acknowledging())
    assert (hooked.wake().next_attempt, hooked.wake().attempts) == (None, 0)
    assert hooked.wake().problem is None


def test_news_after_the_snapshot_is_another_wake(hooked: World) -> None:
    snapshot = hooked.tail(A)
    hooked.news(A, B)
    hooked.do(hooked.acknowledging((A, snapshot), done=True))
    assert hooked.due() == {A: 2, B: 0}
    assert (hooked.subscription().generation, hooked.wake().next_attempt) == (2, NOW)


# -- keys -------------------------------------------------------------------

OLD = Key("old", b"a" * 32, b"b" * 32, NOW)
NEW = Key("new", b"c" * 32, b"d" * 32, NOW)


def test_keys_are_put_in_the_place_of_those_that_were_named(world: World) -> None:
    assert world.decide(KeepKeys((OLD,), ())).outcome == KeysOutcome((OLD,))
    late = world.decide(KeepKeys((NEW,), ()))
    assert (late.changes, late.outcome) == ((), KeysOutcome((OLD,)))
    assert world.decide(KeepKeys((NEW, OLD), ("old",))).outcome == KeysOutcome((NEW, OLD))
    again = world.decide(KeepKeys((OLD,), ("old",)))
    assert (again.changes, again.outcome) == ((), KeysOutcome((NEW, OLD)))
    assert world.subscriptions.keys == (NEW, OLD)


@pytest.mark.parametrize("kind", [Fenced, AlreadyClaimed])
def test_refusals_are_conflicts(kind: type[StreamError]) -> None:
    assert kind("").status == 409


@pytest.mark.parametrize(("time", "kept"), [(-(10**30), 0), (10**30, MAX_TIME)])
def test_times_of_deliveries_are_brought_into_range(hooked: World, time: int, kept: int) -> None:
    hooked.do(Undelivered(hooked.grant(), time, "refused", ()))
    assert hooked.wake().next_attempt == kept
    hooked.do(Delivered(hooked.grant(), time))
    assert hooked.wake().lease_until == kept + LEASE
