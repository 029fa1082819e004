"""Subscriptions and wakes as the JSON documents that clients, workers and webhooks are sent (PROTOCOL 6, 7)."""

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
        streams: its links.
        relative: turns a path into one below the stream root.
        signing: how its deliveries are signed, for a webhook; None if it is not known.
        truncated: whether it has more links than are listed.
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
    """Returns what every worker is told of a wake (PROTOCOL 7.1, 7.2)."""
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
