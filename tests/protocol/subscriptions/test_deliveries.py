"""Tests of webhook deliveries that are accepted, failed, late or retried."""

import pytest

from durable_streams_server.errors import Fenced
from durable_streams_server.protocol.limits import MAX_TIME
from durable_streams_server.protocol.subscriptions.commands import (
    Delivered,
    Grant,
    SubscriptionCommand,
    Tend,
    Undelivered,
)
from durable_streams_server.protocol.subscriptions.outcomes import Done
from tests.protocol.subscriptions.world import LEASE, A, B, World
from tests.requests import NOW, SECOND


@pytest.mark.parametrize(
    "command",
    [
        Delivered(Grant("no", 1, 1), NOW),
        Undelivered(Grant("no", 1, 1), NOW, "refused", ()),
    ],
)
def test_delivery_result_for_unknown_subscription_changes_nothing(
    world: World, command: SubscriptionCommand
) -> None:
    decision = world.decide(command)
    assert (decision.changes, decision.outcome) == ((), Done())


def test_accepted_delivery_begins_a_lease_at_the_time_it_was_sent(hooked: World) -> None:
    hooked.forward(5 * SECOND)
    hooked.do(Delivered(hooked.grant(), NOW + SECOND))
    wake = hooked.wake()
    assert (wake.next_attempt, wake.lease_until, wake.attempts) == (None, NOW + SECOND + LEASE, 0)
    assert hooked.decide(Delivered(hooked.grant(), NOW + 2 * SECOND)).changes == ()
    hooked.forward(SECOND + LEASE)
    hooked.do(Tend("s"))
    assert (hooked.subscription().generation, hooked.wake().next_attempt) == (2, hooked.now)


def test_callback_before_the_delivery_response_begins_the_lease(hooked: World) -> None:
    hooked.forward(SECOND)
    hooked.do(hooked.acknowledging())
    held = hooked.wake()
    assert (held.next_attempt, held.lease_until) == (None, NOW + SECOND + LEASE)
    assert hooked.decide(Delivered(hooked.grant(), NOW)).changes == ()
    assert hooked.wake() == held


def test_delivery_that_fails_after_a_heartbeat_is_retried_later(hooked: World) -> None:
    hooked.do(hooked.acknowledging(), Undelivered(hooked.grant(), NOW + SECOND, "refused", ()))
    wake = hooked.wake()
    assert (wake.next_attempt, wake.lease_until, wake.attempts) == (NOW + SECOND, None, 1)


def test_done_callback_before_the_delivery_response_ends_the_wake(hooked: World) -> None:
    grant = hooked.grant()
    hooked.do(hooked.acknowledging((A, hooked.tail(A)), done=True))
    assert hooked.decide(Delivered(grant, NOW)).changes == ()
    assert hooked.decide(Undelivered(grant, NOW, "refused", ())).changes == ()
    hooked.append_to(A)
    assert hooked.subscription().generation == 2


def test_failed_delivery_is_retried_under_the_same_wake_id(hooked: World) -> None:
    grant, wake = hooked.grant(), hooked.wake()
    hooked.do(Undelivered(grant, NOW + SECOND, "refused", ()))
    assert (hooked.grant(), hooked.wake().wake_id) == (grant, wake.wake_id)
    assert (hooked.wake().next_attempt, hooked.wake().attempts) == (NOW + SECOND, 1)
    assert hooked.wake().problem == "refused"
    hooked.do(Undelivered(grant, NOW + 3 * SECOND, "refused", ()))
    assert hooked.wake().attempts == 2
    hooked.do(Delivered(grant, NOW))
    assert hooked.wake().problem is None


def test_delivery_with_unknown_result_is_retried_under_another_wake_id(hooked: World) -> None:
    first = hooked.acknowledging((A, hooked.tail(A)), done=True)
    hooked.do(Undelivered(first.grant, NOW + SECOND, "refused", None))
    assert (hooked.subscription().generation, hooked.wake().attempts) == (2, 1)
    assert hooked.wake().wake_id != first.wake_id
    hooked.refused(first, Fenced, "FENCED")
    assert hooked.decide(Undelivered(first.grant, NOW, "refused", ())).changes == ()


def test_callback_during_backoff_begins_the_lease(hooked: World) -> None:
    hooked.do(Undelivered(hooked.grant(), NOW + SECOND, "refused", ()))
    hooked.do(hooked.acknowledging())
    assert (hooked.wake().next_attempt, hooked.wake().attempts) == (None, 0)
    assert hooked.wake().problem is None


def test_append_after_the_delivery_snapshot_begins_another_wake(hooked: World) -> None:
    snapshot = hooked.tail(A)
    hooked.append_to(A, B)
    hooked.do(hooked.acknowledging((A, snapshot), done=True))
    assert hooked.due() == {A: 2, B: 0}
    assert (hooked.subscription().generation, hooked.wake().next_attempt) == (2, NOW)


@pytest.mark.parametrize(("time", "kept"), [(-(10**30), 0), (10**30, MAX_TIME)])
def test_delivery_times_out_of_range_are_clamped(hooked: World, time: int, kept: int) -> None:
    hooked.do(Undelivered(hooked.grant(), time, "refused", ()))
    assert hooked.wake().next_attempt == kept
    hooked.do(Delivered(hooked.grant(), time))
    assert hooked.wake().lease_until == kept + LEASE
