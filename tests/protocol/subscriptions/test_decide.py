"""Tests of commands for unknown subscriptions, and of deleting a subscription."""

import pytest

from durable_streams_server.errors import NotFound
from durable_streams_server.protocol.subscriptions.changes import Unsubscribed
from durable_streams_server.protocol.subscriptions.commands import (
    Acknowledge,
    Claim,
    Grant,
    Inspect,
    Link,
    Release,
    SubscriptionCommand,
    Unlink,
    Unsubscribe,
)
from tests.protocol.subscriptions.world import A, World


def test_subscription_recreated_after_unsubscribe_starts_empty(woken: World) -> None:
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
        Inspect("no"),
        Claim("no", "w"),
        Acknowledge(Grant("no", 1, 1), 1, "w"),
        Release(Grant("no", 1, 1), 1, "w"),
    ],
)
def test_command_for_unknown_subscription_is_not_found(
    world: World, command: SubscriptionCommand
) -> None:
    world.refused(command, NotFound, "SUBSCRIPTION_NOT_FOUND")
