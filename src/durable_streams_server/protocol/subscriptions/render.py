"""Renders subscriptions and wakes as JSON documents for clients, workers and webhooks (PROTOCOL 6, 7)."""

from collections.abc import Callable, Iterable
from typing import Any

from ..lifetime import timestamp
from .changes import LinkedStream
from .views import View

Relative = Callable[[str], str]


def subscription(
    view: View,
    streams: Iterable[LinkedStream],
    relative: Relative,
    signing: dict[str, str] | None,
    truncated: bool = False,
) -> dict[str, Any]:
    """Returns a subscription's document (PROTOCOL 6.3).

    Args:
        view: the subscription.
        streams: the streams to list.
        relative: a function that makes a path relative to the stream root.
        signing: a description of the signatures of a webhook's deliveries, or None.
        truncated: whether the subscription has more streams than are listed.
    """
    config = view.config
    webhook: dict[str, Any] | None = None
    if config.webhook_url is not None:
        webhook = {"url": config.webhook_url}
        if signing is not None:
            webhook["signing"] = signing
    document: dict[str, Any] = {
        "id": view.id,
        "subscription_id": view.id,
        "type": config.kind,
        "pattern": config.pattern,
        "streams": [
            {
                "path": relative(stream.path),
                "link_type": _link_type(stream),
                "acked_offset": stream.acked,
            }
            for stream in streams
        ],
        "webhook": webhook,
        "wake_stream": config.wake_stream,
        "lease_ttl_ms": config.lease_ttl,
        "created_at": timestamp(view.created_at),
        "status": view.status,
        "description": config.description,
    }
    if view.reason is not None:
        document["reason"] = view.reason
    if view.damaged:
        document["damaged_streams"] = [relative(path) for path in view.damaged]
    if truncated:
        document["streams_truncated"] = True
    return document


def wake(view: View, relative: Relative) -> dict[str, Any]:
    """Returns the part of a wake's document that is the same for webhooks and claims (PROTOCOL 7.1, 7.2)."""
    return {
        "wake_id": view.wake.wake_id if view.wake is not None else None,
        "generation": view.generation,
        "streams": [
            {
                "path": relative(stream.path),
                "link_type": _link_type(stream),
                "acked_offset": stream.acked,
                "tail_offset": stream.tail,
                "has_pending": stream.acked != stream.tail,
            }
            for stream in view.streams
        ],
    }


def _link_type(stream: LinkedStream) -> str:
    return "explicit" if stream.explicit else "glob"
