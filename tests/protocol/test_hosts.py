"""Tests of the Host header: which values are valid, and which requests need one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams_server.errors import BadRequest
from durable_streams_server.protocol.hosts import check_host, is_host

VALID = [
    b"h",
    b"h.example",
    b"h.example.",
    b"H.EXAMPLE:4437",
    b"my_app-1.internal:80",
    b"localhost:0",
    b"h:65535",
    b"h:",  # RFC 3986, 3.2.3: a port may be empty
    b"127.0.0.1",
    b"127.0.0.1:4437",
    b"[::1]",
    b"[::1]:4437",
    b"[2001:DB8::1]:80",
    b"[::ffff:127.0.0.1]",
    b"a%20b",
    b"xn--caf-dma.example",
    b"a" * 255,
]
INVALID = [
    b" ",
    b"a b",
    b"a\tb",
    b"a/b",
    b"/",
    b"a\\b",
    b"u@h",
    b"u:p@h",
    b"h?x",
    b"h#x",
    b'"h"',
    b"'h'",
    b"h,i",
    b"h, i",
    b"<h>",
    b"h;i",
    b"a\x00b",
    b"a\x7fb",
    b"a\r\nb",
    b"h\n",
    b":80",
    b"h:80:81",
    b"h:x",
    b"h:-1",
    b"h:65536",
    b"h:999999999999",
    b"::1",
    b"[::1",
    b"::1]",
    b"[]",
    b"[::1]x",
    b"[::1]:x",
    b"[127.0.0.1]",
    b"[fe80::1%25eth0]",
    b"[v1.x]",
    b"a%2",
    b"a%zz",
    b"http://h",
    "é".encode(),
    b"\xff",
    b"a" * 300,
]


@pytest.mark.parametrize("host", VALID)
def test_valid_host_is_accepted(host: bytes) -> None:
    assert is_host(host)
    check_host(host, is_needed=True)


@pytest.mark.parametrize("host", INVALID)
def test_invalid_host_is_refused(host: bytes) -> None:
    assert not is_host(host)
    for is_needed in (True, False):
        with pytest.raises(BadRequest) as refused:
            check_host(host, is_needed=is_needed)
        assert refused.value.code == "INVALID_HOST"


def test_missing_host_is_refused_only_if_needed() -> None:  # RFC 9112, 3.2
    check_host(None, is_needed=False)
    with pytest.raises(BadRequest) as refused:
        check_host(None, is_needed=True)
    assert refused.value.code == "INVALID_HOST"


def test_empty_host_is_accepted() -> None:  # RFC 9112, 3.2
    check_host(b"", is_needed=True)


@given(st.binary(max_size=40))
def test_valid_host_has_no_character_that_ends_a_host_in_a_url(host: bytes) -> None:
    assert not is_host(host) or not set(host) & set(b" \t\r\n\0/\\?#@\"'<>,")
