"""Where webhooks may go."""

import pytest

from durable_streams_server.cli.settings.loading import load_settings
from durable_streams_server.subscriptions.addresses import WebhookPolicy


@pytest.mark.parametrize(
    ("flags", "allows"),
    [
        ([], True),
        (["--host", "::1"], True),
        (["--no-auth", "--host", "0.0.0.0"], False),
        (["--no-auth", "--host", "0.0.0.0", "--webhook-allow-loopback"], True),
        (["--uds", "x"], False),
        (["--no-webhook-allow-loopback"], False),
    ],
)
def test_webhooks_may_go_to_this_machine_if_only_this_machine_reaches_the_server(
    flags: list[str], allows: bool
) -> None:
    assert load_settings(flags, {}).settings.webhook_policy().allow_loopback is allows


def test_lists_of_webhooks_become_the_policy() -> None:
    flags = ["--webhook-allow", "a.example", "--webhook-deny", "10.0.0.0/8"]
    policy = load_settings(flags, {}).settings.webhook_policy()
    assert policy == WebhookPolicy(True, ("a.example",), ("10.0.0.0/8",))
