"""Tests of parsing requests into commands, and of refusing malformed requests."""

import gc
import weakref

import pytest
from msgspec.structs import replace

from durable_streams_server.errors import BadRequest
from durable_streams_server.protocol.commands import (
    append_again,
    parse_append,
    parse_create,
    parse_read,
)
from durable_streams_server.protocol.lifetime import Lifetime
from durable_streams_server.protocol.offsets import ZERO, Offset, Sentinel
from durable_streams_server.protocol.producers import Stamp

JSON = {b"content-type": b"application/json"}
OFFSET = b"0000000000000007_0000000000000042"


def refused(code: str, parse: object, *arguments: object) -> None:
    assert callable(parse)
    with pytest.raises(BadRequest) as caught:
        parse(*arguments)
    assert caught.value.code == code


def test_create_with_all_headers_is_parsed() -> None:
    headers = {**JSON, b"stream-ttl": b"60", b"stream-closed": b"TRUE"}
    command = parse_create("/a", headers, b"[1, 2]", None)
    assert command.media is not None
    assert command.media.essence == "application/json"
    assert command.lifetime == Lifetime(ttl=60)
    assert command.body.wire == b"1,2,"
    assert command.closes  # TRAPS 22: the comparison ignores case
    assert command.fork is None


@pytest.mark.parametrize("value", [b"false", b"1", b"yes", b"", b" true"])
def test_stream_closed_header_other_than_true_is_ignored(value: bytes) -> None:
    assert not parse_create("/a", {b"stream-closed": value}, b"", None).closes


def test_stream_public_header_is_parsed() -> None:
    assert parse_create("/a", {b"stream-public": b"true"}, b"", None).public
    assert parse_create("/b", {b"stream-public": b"true"}, b"", "/a").public
    assert not parse_create("/a", {}, b"", None).public


@pytest.mark.parametrize("value", [b"false", b"True", b"TRUE", b"1", b"", b" true", b"true,true"])
def test_stream_public_header_other_than_true_is_refused(value: bytes) -> None:
    refused("INVALID_PUBLIC", parse_create, "/a", {b"stream-public": value}, b"", None)


def test_fork_headers_are_parsed() -> None:
    headers = {b"stream-fork-offset": OFFSET, b"stream-fork-sub-offset": b"3"}
    fork = parse_create("/b", headers, b"", "/a").fork
    assert fork is not None
    assert (fork.source, fork.offset, fork.sub_offset) == ("/a", Offset(7, 42), 3)


def test_fork_offset_accepts_now_and_minus_one() -> None:  # TRAPS 27
    now = parse_create("/b", {b"stream-fork-offset": b"now"}, b"", "/a").fork
    start = parse_create("/b", {b"stream-fork-offset": b"-1"}, b"", "/a").fork
    assert now is not None
    assert start is not None
    assert (now.offset, start.offset) == (None, ZERO)


@pytest.mark.parametrize(
    ("headers", "source", "code"),
    [
        ({b"stream-fork-offset": OFFSET}, None, "INVALID_FORK"),
        ({b"stream-fork-sub-offset": b"0"}, None, "INVALID_FORK"),
        ({b"stream-fork-offset": b"x"}, "/a", "INVALID_OFFSET"),
        ({b"stream-fork-offset": b""}, "/a", "INVALID_OFFSET"),
        ({b"stream-fork-sub-offset": b"1"}, "/a", "INVALID_SUB_OFFSET"),
        *(
            (
                {b"stream-fork-offset": OFFSET, b"stream-fork-sub-offset": value},
                "/a",
                "INVALID_SUB_OFFSET",
            )
            for value in (b"", b"-1", b"+1", b"01", b"1.5", b"1e3", b"x", b"9" * 17)
        ),
    ],
)
def test_malformed_fork_header_is_refused(
    headers: dict[bytes, bytes], source: str | None, code: str
) -> None:
    refused(code, parse_create, "/b", headers, b"", source)


def test_append_with_all_headers_is_parsed() -> None:
    headers = {
        **JSON,
        b"producer-id": b"p",
        b"producer-epoch": b"1",
        b"producer-seq": b"2",
        b"stream-seq": b"0007",
        b"stream-expected-offset": OFFSET,
    }
    command = parse_append("/a", headers, b'{"n":1}')
    assert command.body.wire == b'{"n":1},'
    assert command.has_body
    assert command.stamp == Stamp(b"p", 1, 2)
    assert command.seq == b"0007"
    assert command.expected == Offset(7, 42)


def test_close_needs_neither_body_nor_content_type() -> None:
    command = parse_append("/a", {b"stream-closed": b"true"}, b"")
    assert command.closes
    assert not command.has_body


@pytest.mark.parametrize(
    ("headers", "body", "code"),
    [
        (JSON, b"", "EMPTY_BODY"),
        ({}, b"x", "MISSING_CONTENT_TYPE"),
        ({b"content-type": b""}, b"x", "MISSING_CONTENT_TYPE"),
        ({b"content-type": b"json"}, b"x", "INVALID_CONTENT_TYPE"),
        ({**JSON, b"stream-seq": b""}, b"1", "INVALID_SEQ"),
        ({**JSON, b"stream-seq": b"x" * 257}, b"1", "INVALID_SEQ"),
        ({**JSON, b"stream-expected-offset": b"now"}, b"1", "INVALID_OFFSET"),
        ({**JSON, b"producer-id": b"p"}, b"1", "INVALID_PRODUCER"),
    ],
)
def test_malformed_append_is_refused(headers: dict[bytes, bytes], body: bytes, code: str) -> None:
    refused(code, parse_append, "/a", headers, body)


def test_parse_append_records_invalid_json_as_a_problem() -> None:
    command = parse_append("/a", JSON, b"{")
    assert command.body.problem is not None
    assert command.body.wire == b""


class Watched(dict[bytes, bytes]):
    """A dict of headers that supports weak references."""


def test_invalid_json_body_does_not_keep_the_request_alive() -> None:
    headers = Watched(JSON)
    watched = weakref.ref(headers)
    parse_append("/a", headers, b"{")
    del headers
    gc.collect()
    assert watched() is None


def test_read_without_offset_begins_at_the_start() -> None:
    assert parse_read("/a", {}, {}).offset is Sentinel.START


def test_unknown_query_parameters_are_ignored() -> None:
    assert parse_read("/a", {"utm": ["x", "y"]}, {}).live is None


def test_last_event_id_replaces_the_offset_of_an_sse_read() -> None:
    query = {"offset": ["-1"], "live": ["sse"]}
    assert parse_read("/a", query, {b"last-event-id": OFFSET}).offset == Offset(7, 42)
    assert parse_read("/a", {"offset": ["-1"]}, {b"last-event-id": OFFSET}).offset is Sentinel.START


def test_sse_read_resumes_if_last_event_id_is_an_offset() -> None:
    query = {"offset": [OFFSET.decode()], "live": ["sse"]}
    assert parse_read("/a", query, {b"last-event-id": OFFSET}).resumes
    for identifier in (b"", b"-1", b"now"):
        assert not parse_read("/a", query, {b"last-event-id": identifier}).resumes
    assert not parse_read("/a", query, {}).resumes
    query["live"] = ["long-poll"]
    assert not parse_read("/a", query, {b"last-event-id": OFFSET}).resumes


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"offset": [""]}, "INVALID_OFFSET"),
        ({"offset": ["x"]}, "INVALID_OFFSET"),
        ({"offset": ["-1", "-1"]}, "INVALID_OFFSET"),
        ({"offset": ["-1"], "live": ["true"]}, "INVALID_LIVE"),
        ({"offset": ["-1"], "live": [""]}, "INVALID_LIVE"),
        ({"offset": ["-1"], "live": ["sse", "sse"]}, "INVALID_LIVE"),
        ({"live": ["sse"]}, "MISSING_OFFSET"),
        ({"live": ["long-poll"]}, "MISSING_OFFSET"),
        ({"cursor": ["1", "2"]}, "INVALID_CURSOR"),
        ({"cursor": ["x" * 257]}, "INVALID_CURSOR"),
        ({"cursor": ["9" * 256]}, "INVALID_CURSOR"),
        ({"cursor": [str(10**256 - 3600)]}, "INVALID_CURSOR"),
        ({"cursor": ["a b"]}, "INVALID_CURSOR"),
    ],
)
def test_malformed_read_is_refused(query: dict[str, list[str]], code: str) -> None:
    refused(code, parse_read, "/a", query, {})


def test_malformed_last_event_id_is_refused() -> None:
    query = {"offset": ["-1"], "live": ["sse"]}
    refused("INVALID_OFFSET", parse_read, "/a", query, {b"last-event-id": b"x"})


@pytest.mark.parametrize(
    "more",
    [
        {},
        {b"stream-closed": b"true"},
        {b"stream-seq": b"7"},
        {b"producer-id": b"p", b"producer-epoch": b"1", b"producer-seq": b"2"},
        {b"stream-expected-offset": OFFSET},
        {b"if-match": b'"x"'},
        {b"if-match": b"*", b"if-none-match": b'"x", "y"'},
    ],
)
@pytest.mark.parametrize("media", [b"application/json", b"text/plain", b"a/b"])
@pytest.mark.parametrize(
    "body", [b"[1]", b"[1,", b"[]", b'{"a": 1}', b"x" * 40_000, b"[1" + b" " * 40_000]
)
def test_append_again_returns_the_same_command_as_parse_append(
    more: dict[bytes, bytes], media: bytes, body: bytes
) -> None:
    headers = {b"content-type": media, **more}
    earlier = parse_append("/a", headers, b"[7]")
    again, parsed = (
        append_again(earlier, body),
        parse_append("/a", headers, body),
    )
    if parsed.body.splitting is None:
        assert again == parsed
    else:
        assert again.body.splitting is not None
        assert replace(again, body=parsed.body) == parsed
