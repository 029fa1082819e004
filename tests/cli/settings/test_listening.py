"""Settings of the address and of TLS that contradict each other."""

import pytest

from durable_streams_server.cli.settings.loading import BadSettings, load_settings
from durable_streams_server.cli.settings.settings import Settings


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--uds", "x", "--host", "::1"], "--uds and --host exclude each other"),
        (["--uds", "x", "--port", "4437"], "--uds and --port exclude each other"),
        (["--tls-cert", "x"], "--tls-cert and --tls-key go together"),
        (["--tls-key", "x"], "--tls-cert and --tls-key go together"),
    ],
)
def test_contradictions_are_refused(arguments: list[str], said: str) -> None:
    with pytest.raises(BadSettings) as refused:
        load_settings(arguments, {})
    assert refused.value.message == said


def test_missing_certificate_is_refused() -> None:
    with pytest.raises(BadSettings, match="certificate '/nowhere' cannot be"):
        load_settings(["--tls-cert", "/nowhere", "--tls-key", "/nowhere"], {})


def test_server_without_certificate_speaks_plain_http() -> None:
    assert Settings().tls_context() is None
