"""Responses as octets of an HTTP/1.1 connection."""

import re

import pytest

from durable_streams_server.http import wire
from durable_streams_server.protocol.render import Common, Response


def test_response_head_has_own_headers_common_headers_and_framing() -> None:
    response = Response(200, [(b"etag", b'"a"')], b"body", common=Common([(b"x", b"y")]))
    head = wire.head(response, wire.CLOSE + wire.length_line(response, to_head=False))
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert head.endswith(b"\r\n\r\n")
    assert set(head.split(b"\r\n")[1:-2]) == {
        b'etag: "a"',
        b"x: y",
        b"connection: close",
        b"content-length: 4",
    }


@pytest.mark.parametrize(
    "status", [200, 201, 204, 304, 400, 408, 413, 414, 429, 431, 500, 503, 507]
)
def test_every_status_has_a_status_line(status: int) -> None:
    line = wire.head(Response(status, []), b"").partition(b"\r\n")[0]
    assert re.fullmatch(rb"HTTP/1\.1 %d [A-Za-z -]+" % status, line)


def test_only_responses_that_may_have_a_body_have_content_length() -> None:
    assert wire.length_line(Response(200, []), to_head=False) == b"content-length: 0\r\n"
    assert wire.length_line(Response(200, [], b"1,", array=True), False) == b"content-length: 3\r\n"
    assert wire.length_line(Response(200, [], b"body"), to_head=True) == b""
    for status in (204, 304):
        assert wire.length_line(Response(status, []), to_head=False) == b""


def test_chunk_begins_with_its_size_in_hexadecimal() -> None:
    assert wire.chunk(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"


def test_date_line_has_http_format() -> None:  # RFC 9110, 5.6.7
    assert re.fullmatch(
        rb"date: [A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT\r\n", wire.date_line()
    )
