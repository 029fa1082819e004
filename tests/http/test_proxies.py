"""Which peers are trusted as proxies, and what their headers say about the client."""

import re
from typing import Any

import pytest

from durable_streams_server.http.proxies import TrustedProxies, parse_network
from durable_streams_server.http.request import Request
from durable_streams_server.protocol.forwarding import Client

LISTED = ("10.0.0.1", "192.0.2.0/24", "2001:db8::/32")


def trusts(peer: Any, *named: str) -> bool:
    """Returns whether a peer is a trusted proxy."""
    return TrustedProxies(named).trusts(peer)


@pytest.mark.parametrize(
    ("peer", "trusted"),
    [
        (("127.0.0.1", 1), True),
        (("::1", 1, 0, 0), True),
        (("::ffff:127.0.0.1", 1, 0, 0), True),  # IPv4 on a socket of both families
        ("", True),
        (None, True),
        (("127.0.0.2", 1), False),
        (("10.0.0.1", 1), False),
        (("::2", 1, 0, 0), False),
    ],
)
def test_only_peers_on_this_machine_are_trusted_by_default(peer: Any, trusted: bool) -> None:
    assert trusts(peer) is trusted


@pytest.mark.parametrize(
    ("peer", "trusted"),
    [
        (("10.0.0.1", 1), True),
        (("::ffff:10.0.0.1", 1, 0, 0), True),
        (("192.0.2.255", 1), True),
        (("2001:db8:1::5", 1, 0, 0), True),
        (("2001:db8:1::5%eth0", 1, 0, 0), True),
        (("10.0.0.2", 1), False),
        (("192.0.3.0", 1), False),
        (("127.0.0.1", 1), False),
        (("testclient", 1), False),
        ("", False),
        (None, False),
    ],
)
def test_list_replaces_the_default(peer: Any, trusted: bool) -> None:
    assert trusts(peer, *LISTED) is trusted


@pytest.mark.parametrize("peer", ["10.0.0.1", "::ffff:10.0.0.1"])
def test_proxy_may_be_named_by_its_mapped_address(peer: str) -> None:
    assert trusts((peer, 1), "::ffff:10.0.0.1")
    assert trusts((peer, 1), "::ffff:10.0.0.0/104")
    assert not trusts((peer, 1), "::ffff:10.0.0.2")


@pytest.mark.parametrize("peer", ["", None, "/run/client.sock", b""])
def test_unix_sockets_are_trusted_if_named(peer: Any) -> None:
    assert trusts(peer, "unix")
    assert not trusts(("127.0.0.1", 1), "unix")


def test_proxy_that_is_not_listed_names_only_the_scheme() -> None:
    headers = {b"x-forwarded-for": b"203.0.113.9", b"x-forwarded-proto": b"https, http"}
    assert TrustedProxies().client_of(headers) == Client(None, "https")


def test_listed_proxy_names_address_and_scheme() -> None:
    headers = {b"x-forwarded-for": b"::1, 203.0.113.9, 192.0.2.8", b"x-forwarded-proto": b"https"}
    assert TrustedProxies(LISTED).client_of(headers) == Client("203.0.113.9", "https")
    assert TrustedProxies(LISTED).client_of({}) == Client(None, None)


@pytest.mark.parametrize(
    ("named", "peer", "expected"),
    [
        (LISTED, ("10.0.0.1", 1), None),
        (LISTED, ("10.0.0.2", 1), "10.0.0.2"),
        (LISTED, ("2001:db9::5", 1, 0, 0), "2001:db9::/64"),
        ((), ("127.0.0.1", 1), "127.0.0.1"),  # it is trusted only with the scheme
        ((), "", None),
        (("unix",), "", None),
    ],
)
def test_connection_of_a_proxy_that_names_clients_has_no_share(
    named: tuple[str, ...], peer: Any, expected: str | None
) -> None:
    assert TrustedProxies(named).counted_address(peer) == expected


def test_request_gets_the_client_and_the_scheme_that_a_proxy_names() -> None:
    headers = {b"x-forwarded-for": b"2001:db9::5", b"x-forwarded-proto": b"https"}
    request = Request("GET", b"/", b"", headers)
    TrustedProxies(LISTED).describe(request)
    assert (request.client, request.scheme) == ("2001:db9::/64", "https")
    plain = Request("GET", b"/", b"", {b"forwarded": b"for=unknown"}, scheme="https")
    TrustedProxies(LISTED).describe(plain)
    assert (plain.client, plain.scheme) == (None, "https")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("10.0.0.1/8", "'10.0.0.1/8' is not a network: write '10.0.0.0/8'"),
        ("localhost", "'localhost' is neither an IP address nor a network"),
        ("10.0.0.1/33", "'10.0.0.1/33' is neither"),
        ("", "'' is neither"),
        ("*", "'*' is neither"),
    ],
)
def test_name_that_is_no_network_is_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        TrustedProxies([name])


def test_address_is_a_network_of_one() -> None:
    assert parse_network("10.0.0.1").num_addresses == 1
