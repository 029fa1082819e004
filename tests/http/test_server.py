"""The process side of serving."""

import socket

import pytest

from durable_streams_server import create_app
from durable_streams_server.http.server import Server, listen, url_of


def test_an_address_is_shown_as_a_url() -> None:
    with listen("127.0.0.1", 0) as listening:
        assert url_of(listening) == f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
def test_an_ipv6_address_is_shown_in_brackets() -> None:
    with listen("::1", 0) as listening:
        assert url_of(listening).startswith("http://[::1]:")


def test_an_idle_connection_outlives_a_load_balancers() -> None:  # TRAPS 52
    assert Server(create_app()).config.timeout_keep_alive > 60
