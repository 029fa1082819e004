"""What a server without subscriptions does not pay for."""

import subprocess
import sys

import pytest

HEAVY = {"cryptography", "httpcore2", "anyio", "jwt"}


@pytest.mark.parametrize(
    "module",
    [
        "durable_streams_server",
        "durable_streams_server.cli.main",
        "durable_streams_server.http.app",
        "durable_streams_server.http.embedded",
        "durable_streams_server.http.serving.server",
        "durable_streams_server.protocol.signing",
    ],
)
def test_starting_imports_nothing_that_only_subscriptions_need(module: str) -> None:
    code = f"import sys, {module}; print(*{{name.split('.')[0] for name in sys.modules}})"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY & set(shown.stdout.split())
