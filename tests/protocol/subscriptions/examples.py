"""Helpers that build subscriptions from lists of changes."""

from typing import Any

from durable_streams_server.protocol.signing import Key
from durable_streams_server.protocol.subscriptions.changes import Subscribed, SubscriptionChange
from durable_streams_server.protocol.subscriptions.state import Subscriptions
from tests.protocol.subscriptions.world import subscribe
from tests.requests import NOW

KEY = Key("kid", b"s" * 32, b"t" * 32, NOW, NOW + 1)


def subscribed(
    id_: str = "s", incarnation: int = 7, owner: str | None = None, **fields: Any
) -> Subscribed:
    """Returns a change that creates a subscription."""
    return Subscribed(id_, incarnation, subscribe(id_, **fields).config, NOW, owner)


def subscriptions_with(*changes: SubscriptionChange) -> Subscriptions:
    """Returns subscriptions to which changes have been applied."""
    subscriptions = Subscriptions()
    for change in changes:
        subscriptions.apply(change)
    return subscriptions


def watcher_ids(subscriptions: Subscriptions, path: str) -> list[str]:
    """Returns the sorted ids of a stream's watchers."""
    return sorted(subscription.id for subscription in subscriptions.watchers(path))
