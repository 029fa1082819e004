"""Tests of networks that operators write."""

from ipaddress import ip_network

import pytest

from durable_streams_server.protocol.networks import network_from


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("10.0.0.1", "10.0.0.1/32"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("2001:db8::1", "2001:db8::1/128"),
        ("::ffff:10.0.0.1", "10.0.0.1/32"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("::/0", "::/0"),
        ("::10.0.0.1", "::a00:1/128"),
    ],
)
def test_mapped_ipv4_network_becomes_ipv4(text: str, network: str) -> None:
    assert network_from(text) == ip_network(network)


@pytest.mark.parametrize("text", ["", "localhost", "10.0.0.1/8", "::ffff:10.0.0.1/104"])
def test_text_that_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        network_from(text)
