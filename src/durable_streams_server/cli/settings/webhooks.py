"""Settings of webhooks: where they may go, and how their receivers reach the server."""

import dataclasses

from ...subscriptions.addresses import WebhookPolicy
from ...subscriptions.public_url import check_public_url
from ..values import Checked
from .definition import Topic, setting


def _check_entry(text: str) -> None:
    """Refuses a text that is neither a host name, an address nor a network."""
    WebhookPolicy(allow=(text,))


_ENTRY = Checked("host or network", _check_entry)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Webhooks(Topic):
    """Where webhooks may go, and how their receivers reach the server."""

    public_url: str | None = setting(
        None,
        "Where clients reach the server, for webhooks to call back.",
        kind=Checked("url", check_public_url),
        unset="the address it listens on",
        example="https://streams.example.com",
    )
    webhook_allow_loopback: bool | None = setting(
        None,
        "Let webhooks go to this machine, also over http.",
        unset="only when listening on loopback",
        example=True,
    )
    webhook_allow: tuple[str, ...] = setting(
        (),
        "Let webhooks go only there; may be repeated. A network may be a private one.",
        kind=_ENTRY,
        metavar="HOST|NETWORK",
    )
    webhook_deny: tuple[str, ...] = setting(
        (),
        "Let no webhook go there; may be repeated.",
        kind=_ENTRY,
        metavar="HOST|NETWORK",
    )
