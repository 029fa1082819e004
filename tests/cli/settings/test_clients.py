"""Settings of what one client may take, and of trusted proxies."""

import pytest

from durable_streams_server import ClientLimits
from durable_streams_server.cli.settings.loading import BadSettings, load_settings


def test_limits_of_clients_become_the_argument_of_the_application() -> None:
    assert load_settings([], {}).settings.client_limits() == ClientLimits()
    flags = ["--max-live-readers", "5", "--max-live-readers-per-stream", "4"]
    flags += ["--max-live-readers-per-client", "3", "--max-appends-per-second", "2"]
    flags += ["--max-subscriptions-per-token", "6"]
    found = load_settings(flags, {"DURABLE_STREAMS_MAX_BYTES_PER_SECOND": "1m"})
    assert found.settings.client_limits() == ClientLimits(5, 4, 3, 2, 1024 * 1024, 6)


@pytest.mark.parametrize(
    "flag",
    [
        "max-live-readers",
        "max-live-readers-per-stream",
        "max-live-readers-per-client",
        "max-appends-per-second",
        "max-bytes-per-second",
        "max-subscriptions-per-token",
    ],
)
def test_limit_of_clients_is_at_least_1(flag: str) -> None:
    with pytest.raises(BadSettings, match=f"--{flag}"):
        load_settings([f"--{flag}", "0"], {})


def test_trusted_proxies_are_addresses_networks_and_unix_sockets() -> None:
    assert not load_settings([], {}).settings.trusted_proxies().names_clients
    flags = ["--trusted-proxy", "10.1.0.0/16", "--trusted-proxy", "unix"]
    proxies = load_settings(flags, {}).settings.trusted_proxies()
    assert proxies.trusts(("10.1.2.3", 1))
    assert proxies.trusts("")
    assert not proxies.trusts(("127.0.0.1", 1))
    by_variable = load_settings([], {"DURABLE_STREAMS_TRUSTED_PROXY": "::1, 127.0.0.1"})
    assert by_variable.settings.trusted_proxies().trusts(("::1", 1, 0, 0))


@pytest.mark.parametrize("name", ["localhost", "10.1.2.3/16", "*"])
def test_trusted_proxy_that_is_no_network_is_refused(name: str) -> None:
    with pytest.raises(BadSettings) as refused:
        load_settings(["--trusted-proxy", name], {})
    assert "--trusted-proxy" in refused.value.message
    assert f"'{name}' is " in refused.value.message
