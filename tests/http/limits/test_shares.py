"""Each client address may hold only its share of a common limit."""

import asyncio
from typing import Any

import pytest

from durable_streams_server.http.limits.shares import Shares, address_of, network_of


def test_amount_beyond_the_share_of_an_address_is_refused() -> None:
    shares = Shares(10)
    assert shares.take("a", 6)
    assert not shares.take("a", 5)
    assert shares.held("a") == 6
    assert shares.take("a", 4)
    assert shares.take("b", 10)


def test_address_can_use_its_share_again_after_release() -> None:
    shares = Shares(10)
    assert shares.take("a", 10)
    shares.give_back("a", 3)
    assert not shares.take("a", 4)
    assert shares.take("a", 3)


def test_share_entry_is_removed_once_its_address_released_everything() -> None:
    shares = Shares(10)
    for number in range(1000):
        assert shares.take(str(number), 2)
        assert not shares.take(str(number), 9)
    assert len(shares) == 1000
    for number in range(1000):
        shares.give_back(str(number), 1)
        shares.give_back(str(number), 1)
    assert len(shares) == 0


def test_refused_or_zero_amount_creates_no_share_entry() -> None:
    shares = Shares(10)
    assert not shares.take("a", 11)
    assert shares.take("a", 0)
    shares.give_back("a", 0)
    assert len(shares) == 0


def test_client_without_an_address_has_no_share_limit() -> None:
    shares = Shares(1)
    assert shares.take(None, 100)
    shares.give_back(None, 100)
    assert len(shares) == 0


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("::1", "::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("a name", "a name"),
        ("no:address", "no:address"),
    ],
)
def test_ipv6_addresses_share_the_limit_of_their_64_bit_network(host: str, network: str) -> None:
    assert network_of(host) == network


class Transport(asyncio.Transport):
    """A transport with a given peer name."""

    def __init__(self, peer: Any) -> None:
        super().__init__({"peername": peer})


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        (("192.0.2.7", 1234), "192.0.2.7"),
        (("2001:db8::1", 1234, 0, 0), "2001:db8::/64"),
        ("", None),
        (b"", None),
        ("/run/client.sock", None),
        (None, None),
    ],
)
def test_unix_socket_client_has_no_address(peer: Any, address: str | None) -> None:
    assert address_of(Transport(peer)) == address
