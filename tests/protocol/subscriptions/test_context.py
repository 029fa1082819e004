"""Tests of the steps that several subscription commands share."""

import pytest

from durable_streams_server.errors import NotFound
from durable_streams_server.protocol.subscriptions import context
from durable_streams_server.protocol.subscriptions.changes import WakeChanged
from durable_streams_server.protocol.subscriptions.context import Context, lease_end, passed_over
from durable_streams_server.protocol.subscriptions.draft import Draft
from tests.protocol.subscriptions.world import LEASE, OPENING, A, B, World
from tests.requests import NOW


def context_of(world: World) -> Context:
    """Returns the context of a command that is decided now."""
    draft = Draft(world.subscriptions, world.states, (), world.now, 0)
    return Context(world.subscriptions, world.states, draft, world.now)


def test_unknown_subscription_is_not_found(woken: World) -> None:
    assert context_of(woken).require("s") is woken.subscription()
    with pytest.raises(NotFound):
        context_of(woken).require("no")


def test_end_wake_begins_the_next_wake_only_while_bytes_are_unread(woken: World) -> None:
    made = context_of(woken)
    assert made.end_wake(woken.subscription(), woken.wake())
    assert made.draft.generation_of(woken.subscription()) == 2
    woken.states[A].tail = 0  # a repair has truncated the stream
    made = context_of(woken)
    assert not made.end_wake(woken.subscription(), woken.wake())
    assert WakeChanged("s", 1, None) in made.draft.finish()


def test_renamed_wake_has_the_next_generation_in_its_id(woken: World) -> None:
    generation, wake = context_of(woken).renamed_wake(woken.subscription(), woken.wake())
    assert generation == 2
    assert wake.wake_id.endswith(f"_2_{OPENING}")


def test_lease_lasts_for_the_configured_time(woken: World) -> None:
    assert lease_end(woken.subscription(), NOW) == NOW + LEASE


def test_passed_over_is_zero_if_the_wake_listed_every_stream(
    woken: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    woken.append_to(B)
    assert passed_over(woken.subscription(), woken.wake()) == 0
    monkeypatch.setattr(context, "MAX_LISTED", 1)
    assert passed_over(woken.subscription(), woken.wake()) == 1
