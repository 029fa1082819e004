"""Tests of finding the client's address and scheme in the headers of proxies."""

import time
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams_server.protocol.forwarding import (
    Client,
    find_client,
    first_scheme,
    parse_address,
)

PROXIES = frozenset({"10.0.0.1", "10.0.0.2", "10.0.0.3", "2001:db8:ffff::1"})
CLIENTS = ("192.0.2.43", "203.0.113.9", "2001:db8::7", "127.0.0.1")


def scheme(proto: bytes | None = None, forwarded: bytes | None = None) -> str | None:
    """Returns the scheme found in the two headers."""
    headers = {b"x-forwarded-proto": proto, b"forwarded": forwarded}
    return first_scheme({name: value for name, value in headers.items() if value is not None})


@pytest.mark.parametrize(
    ("proto", "expected"),
    [
        (b"https", "https"),
        (b"http", "http"),
        (b"HTTPS", "https"),
        (b"https, http", "https"),  # the client connected to the first proxy
        (b"http, https", "http"),
        (b"https,http,http", "https"),
        (b" https ,http", "https"),
        (b"gopher, https", None),
        (b", https", None),
        (b"", None),
        (b"https http", None),
        (b"\xff", None),
    ],
)
def test_first_scheme_in_x_forwarded_proto_is_used(proto: bytes, expected: str | None) -> None:
    assert scheme(proto) == expected


@pytest.mark.parametrize(
    ("forwarded", "expected"),
    [
        (b"proto=https", "https"),
        (b"for=192.0.2.43;proto=https;host=h.example", "https"),
        (b"For=192.0.2.43 ; Proto=HTTPS", "https"),
        (b'proto="https"', "https"),
        (b'proto="ht\\tps"', "https"),  # an escape in a quoted string
        (b'for="[2001:db8::1]:80";proto=https', "https"),
        (b'for="a,b;proto=http";proto=https', "https"),
        (b'for="a\\"b";proto=https', "https"),
        (b"for=a;proto=https, for=b;proto=http", "https"),
        (b"for=a, for=b;proto=https", "https"),  # the first element with a proto
        (b",, for=a;proto=https,,", "https"),
        (b"for=a;;proto=https", "https"),
        (b"for=_hidden;by=unknown", None),
        (b"proto=gopher", None),
        (b"proto=gopher, proto=https", None),
        (b"proto=https;proto=http", None),  # twice in one element (RFC 7239, 4)
        (b"proto=", None),
        (b"proto", None),
        (b"=https", None),
        (b"proto =https", None),
        (b'proto="https', None),
        (b'proto="https"x', None),
        (b"proto=https for=a", None),
        (b"proto=https, for=[::1]", None),  # a list that is malformed anywhere is ignored
        (b"", None),
        (b"\xff", None),
        (b"\n", None),
        (b"proto=https\n", None),
        (b"proto=https,\n", None),
    ],
)
def test_first_proto_in_forwarded_is_used(forwarded: bytes, expected: str | None) -> None:
    assert scheme(forwarded=forwarded) == expected


def test_x_forwarded_proto_takes_precedence_over_forwarded() -> None:
    assert scheme(b"https", b"proto=http") == "https"
    assert scheme(b"gopher", b"proto=https") == "https"
    assert scheme() is None


@given(st.binary(max_size=80))
def test_proxy_headers_of_any_bytes_are_parsed_without_an_error(value: bytes) -> None:
    for said in (scheme(value), scheme(None, value), scheme(None, b"proto=https," + value)):
        assert said in (None, "http", "https")


@pytest.mark.parametrize("end", [b"", b"x", b'"', b"\n"])
@pytest.mark.parametrize("part", [b" ", b"a", b'"', b"\\", b"a=", b'a="', b";", b",", b'a="\\'])
def test_long_header_is_parsed_in_linear_time(part: bytes, end: bytes) -> None:
    begin = time.thread_time()
    scheme(None, part * (32_000 // len(part)) + end)
    assert time.thread_time() - begin < 0.25


def client(
    xff: bytes | None = None, forwarded: bytes | None = None, proto: bytes | None = None
) -> Client:
    """Returns what the headers of a request from a trusted proxy say about its client."""
    headers = {b"x-forwarded-for": xff, b"forwarded": forwarded, b"x-forwarded-proto": proto}
    found = {name: value for name, value in headers.items() if value is not None}
    return find_client(found, PROXIES.__contains__)


@pytest.mark.parametrize(
    ("xff", "expected"),
    [
        (b"192.0.2.43", "192.0.2.43"),
        (b" 192.0.2.43 ", "192.0.2.43"),
        (b"192.0.2.43:47011", "192.0.2.43"),
        (b"2001:db8::7", "2001:db8::7"),
        (b"2001:DB8:0::7", "2001:db8::7"),
        (b"[2001:db8::7]", "2001:db8::7"),
        (b"[2001:db8::7]:47011", "2001:db8::7"),
        (b"::ffff:192.0.2.43", "192.0.2.43"),
        (b"203.0.113.9, 192.0.2.43", "192.0.2.43"),  # the client sent the first entry itself
        (b"203.0.113.9, 192.0.2.43, 10.0.0.1", "192.0.2.43"),
        (b"192.0.2.43,10.0.0.1,10.0.0.2", "192.0.2.43"),
        (b"192.0.2.43, [2001:db8:ffff:0::1]:80", "192.0.2.43"),
        (b"192.0.2.43, 10.0.0.9, 10.0.0.1", "10.0.0.9"),  # 10.0.0.9 is no trusted proxy
        (b"10.0.0.3, 10.0.0.2, 10.0.0.1", "10.0.0.3"),  # a request of a proxy itself
        (b"10.0.0.1", "10.0.0.1"),
    ],
)
def test_client_is_last_address_that_is_no_trusted_proxy(xff: bytes, expected: str) -> None:
    assert client(xff).address == expected


@pytest.mark.parametrize(
    "entry",
    [
        b"",
        b"unknown",
        b"_hidden",
        b"192.0.2",
        b"192.0.2.256",
        b"192.0.2.043",
        b"192.0.2.43:",
        b"192.0.2.43:port",
        b"192.0.2.43 10.0.0.2",
        b"1:2",
        b"[192.0.2.43]",
        b"[2001:db8::7",
        b"2001:db8::7]",
        b"2001:db8::7%eth0",
        b"client.example",
        b'"192.0.2.43"',
        b"\xff",
        b"192.0.2.43\n",
    ],
)
def test_entry_without_address_ends_the_walk_at_the_last_trusted_proxy(entry: bytes) -> None:
    assert client(entry).address is None
    assert client(b"192.0.2.43, " + entry).address is None
    assert client(entry + b", 10.0.0.1").address == "10.0.0.1"
    assert client(b"192.0.2.43, " + entry + b", 10.0.0.2, 10.0.0.1").address == "10.0.0.2"


@pytest.mark.parametrize(
    ("forwarded", "expected"),
    [
        (b"for=192.0.2.43", Client("192.0.2.43", None)),
        (b'For="192.0.2.43:47011"', Client("192.0.2.43", None)),
        (b'for="192.0.2.43:_secret"', Client("192.0.2.43", None)),
        (b'for="[2001:db8::7]"', Client("2001:db8::7", None)),
        (b'for="[2001:db8::7]:47011";proto=https', Client("2001:db8::7", "https")),
        (b"for=203.0.113.9;proto=http, for=192.0.2.43;proto=https", Client("192.0.2.43", "https")),
        (
            b"for=192.0.2.43;proto=https, for=10.0.0.2;proto=http, for=10.0.0.1;proto=http",
            Client("192.0.2.43", "https"),
        ),
        (b"for=192.0.2.43, for=10.0.0.1;proto=https", Client("192.0.2.43", "https")),
        (b"proto=https, for=192.0.2.43, for=10.0.0.1", Client("192.0.2.43", None)),
        (b",, for=192.0.2.43,, for=10.0.0.1;,", Client("192.0.2.43", None)),
        (b"for=unknown;proto=https", Client(None, "https")),
        (b"for=_hidden, for=10.0.0.1;proto=http", Client("10.0.0.1", "http")),
        (b'for="2001:db8::7"', Client(None, None)),  # brackets are missing
        (b"for=192.0.2.43, by=10.0.0.1;proto=https", Client(None, "https")),
        (b"for=192.0.2.43;for=203.0.113.9", Client(None, None)),  # twice in one element
        (b'for=192.0.2.43, for="', Client(None, None)),
        (b"", Client(None, None)),
    ],
)
def test_forwarded_names_the_client_and_its_scheme(forwarded: bytes, expected: Client) -> None:
    assert client(forwarded=forwarded) == expected


@pytest.mark.parametrize(
    ("xff", "proto", "expected"),
    [
        (b"192.0.2.43", b"https", "https"),
        (b"192.0.2.43", b"http, https", "https"),  # the client sent the first entry itself
        (b"192.0.2.43, 10.0.0.1", b"https, http", "https"),
        (b"203.0.113.9, 192.0.2.43, 10.0.0.1", b"http, https, http", "https"),
        (b"192.0.2.43, 10.0.0.2, 10.0.0.1", b"https", "https"),  # the proxies replace the list
        (b"unknown, 10.0.0.1", b"https, http", "https"),
        (b"unknown", b"http, https", "https"),
        (None, b"https, http", "https"),
        (b"192.0.2.43", b"https, gopher", None),
        (b"192.0.2.43", b"", None),
    ],
)
def test_scheme_is_that_of_the_client_connection(
    xff: bytes | None, proto: bytes, expected: str | None
) -> None:
    assert client(xff, proto=proto).scheme == expected


def test_x_forwarded_for_takes_precedence_over_forwarded() -> None:
    assert client(b"192.0.2.43", b"for=203.0.113.9;proto=https") == Client("192.0.2.43", "https")
    assert client(b"unknown", b"for=203.0.113.9").address is None
    assert client(b"192.0.2.43", b"for=203.0.113.9;proto=https", b"http").scheme == "http"
    assert client() == Client(None, None)


nodes = st.sampled_from(sorted(PROXIES) + list(CLIENTS) + ["unknown", "_hidden"])


def spelled(node: str) -> bytes:
    """Returns a node as `Forwarded` has it."""
    return b'"[%b]"' % node.encode() if ":" in node else node.encode()


@given(st.lists(nodes, max_size=6))
def test_both_headers_give_the_address_that_a_plain_search_gives(chain: list[str]) -> None:
    expected: str | None = None
    for node in reversed(chain):
        if node in ("unknown", "_hidden"):
            break
        expected = node
        if node not in PROXIES:
            break
    assert client(b", ".join(node.encode() for node in chain)).address == expected
    elements = b",".join(b"for=" + spelled(node) for node in chain)
    assert client(forwarded=elements).address == expected


@given(
    sent=st.binary(max_size=60),
    address=st.sampled_from(CLIENTS),
    between=st.lists(st.sampled_from(sorted(PROXIES)), max_size=3),
)
def test_client_cannot_change_its_address_by_a_header_of_its_own(
    sent: bytes, address: str, between: list[str]
) -> None:
    added = [address, *between]
    assert client(b", ".join((sent, *(each.encode() for each in added)))).address == address
    elements = b", ".join((sent, *(b"for=" + spelled(each) for each in added)))
    assert client(forwarded=elements).address in (address, None)  # None if `sent` is malformed


@given(st.binary(max_size=80), st.binary(max_size=80))
def test_address_in_headers_of_any_bytes_is_an_address(one: bytes, two: bytes) -> None:
    for found in (client(one), client(None, two), client(one, two), client(one, two, one)):
        assert found.address is None or str(ip_address(found.address)) == found.address
        assert found.scheme in (None, "http", "https")


@given(st.ip_addresses())
def test_every_address_is_parsed(address: object) -> None:
    text = str(address)
    found = parse_address(text)
    assert found is not None
    assert parse_address(found) == found
    assert client(text.encode()).address == found
    assert client(forwarded=b"for=" + spelled(text)).address == found


@pytest.mark.parametrize("part", [b" ", b"a", b",", b"1.", b":", b"[", b"10.0.0.1,", b"[::]:_a"])
def test_long_chain_is_parsed_in_linear_time(part: bytes) -> None:
    begin = time.thread_time()
    client(part * (32_000 // len(part)))
    client(forwarded=b"for=" + part * (32_000 // len(part)))
    assert time.thread_time() - begin < 0.25
