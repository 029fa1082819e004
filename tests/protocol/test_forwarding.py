"""Tests of finding the client's scheme in the headers of proxies."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams_server.protocol.forwarding import client_scheme


def scheme(proto: bytes | None = None, forwarded: bytes | None = None) -> str | None:
    """Returns the scheme found in the two headers."""
    headers = {b"x-forwarded-proto": proto, b"forwarded": forwarded}
    return client_scheme({name: value for name, value in headers.items() if value is not None})


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
