"""Tests of whether a client prefers gzip, and of which request bodies are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams_server.errors import UnsupportedMedia
from durable_streams_server.protocol.codings import prefers_gzip, refuse_coded


@pytest.mark.parametrize(
    "accepted",
    [
        b"gzip",
        b"GZip",
        b"x-gzip",
        b"X-GZIP;q=0.1",
        b"*",
        b"*;q=0.001",
        b"gzip;q=1",
        b"gzip;q=1.000",
        b"gzip;q=0.001",
        b"gzip;Q=0.5",
        b"gzip ; q=0.5",
        b"gzip\t;\tq=0.5",
        b"br, gzip",
        b"br,,gzip,",
        b"br;q=1.0, gzip;q=0.8, *;q=0.1",
        b"gzip;q=0.5, *;q=0",
        b"*;q=0, gzip",
        b"identity;q=0, gzip;q=0.2",
        b"identity;q=0.5, gzip;q=0.5",
        b"identity;q=0.5, *",
        b"gzip;q=0, x-gzip",
        b"nonsense;;, gzip",
    ],
)
def test_gzip_is_preferred(accepted: bytes) -> None:
    assert prefers_gzip(accepted)


@pytest.mark.parametrize(
    "accepted",
    [
        b"",
        b" ",
        b",",
        b"br",
        b"identity",
        b"gzipped",
        b"x-gzip2",
        b"gzip;q=0",
        b"gzip;q=0.0",
        b"gzip;q=0.000",
        b"gzip; q=0.",
        b"gzip;q=0, *",  # the name takes precedence over the asterisk
        b"*;q=0",
        b"br, *;q=0",
        b"identity, gzip;q=0.5",  # the client prefers the uncompressed body
        b"identity;q=1, *;q=0.5",
        b"identity;q=0",
        b"gzip;q=",
        b"gzip;q=2",
        b"gzip;q=1.001",
        b"gzip;q=-1",
        b"gzip;q=0.0001",
        b"gzip;q=1e3",
        b"gzip;q=.5",
        b"gzip;q=x",
        b"gzip;level=9",
        b"gzip;q=1;q=1",
        b"gzip q=1",
        b'"gzip"',
        b"g zip",
        b"\xff",
        b"gzip;q=1\x00",
    ],
)
def test_gzip_is_not_preferred(accepted: bytes) -> None:
    assert not prefers_gzip(accepted)


@given(st.binary(max_size=60))
def test_prefers_gzip_accepts_any_bytes_without_an_error(accepted: bytes) -> None:
    assert prefers_gzip(accepted) in (True, False)


@pytest.mark.parametrize("coding", [None, b"identity", b"Identity", b"", b" , identity ,"])
def test_body_without_a_content_coding_is_accepted(coding: bytes | None) -> None:
    refuse_coded({} if coding is None else {b"content-encoding": coding})


@pytest.mark.parametrize(
    "coding", [b"gzip", b"x-gzip", b"br", b"aws-chunked", b"identity, gzip", b"\xff", b"*"]
)
def test_body_with_a_content_coding_is_refused_with_the_accepted_ones(coding: bytes) -> None:
    with pytest.raises(UnsupportedMedia) as refused:
        refuse_coded({b"content-encoding": coding})
    assert (refused.value.status, refused.value.code) == (415, "UNSUPPORTED_CONTENT_ENCODING")
    assert refused.value.headers == ((b"accept-encoding", b"identity"),)
