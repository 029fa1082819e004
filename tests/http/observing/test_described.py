"""Tests that logs and traces describe a request without its secrets."""

from typing import Any

import pytest

from durable_streams_server.http.observing.described import (
    agent_of,
    client_of,
    describe,
    method_of,
    path_of,
    query_of,
)
from durable_streams_server.http.request import Request
from durable_streams_server.protocol.names import X_REQUEST_ID


def asked(query: bytes = b"", **more: Any) -> Request:
    return Request("GET", b"/v1/stream/a%20b", query, more.pop("headers", {}), **more)


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        (b"", ""),
        (b"offset=-1&live=sse&cursor=7", "offset=-1&live=sse&cursor=7"),
        (b"token=hush", ""),
        (b"token_id=x&expires=1&signature=hush&offset=now", "offset=now"),
        (b"offset=-1;token=hush", "offset=..."),
        (b"OFFSET=hush&%6fffset=hush&offset", "offset="),
        (b"offset=" + b"x" * 200, "offset=" + "x" * 200),
        (b"offset=" + b"x" * 201, "offset=..."),
        (b"&".join([b"offset=1"] * 50), "&".join(["offset=1"] * 3)),
        (b"offset=\xff&cursor=%20", "offset=...&cursor=..."),
    ],
)
def test_query_shows_only_parameters_of_the_protocol(query: bytes, shown: str) -> None:
    assert query_of(asked(query)) == shown


def test_path_is_shown_as_received_and_cut_if_it_is_too_long() -> None:
    assert path_of(asked()) == "/v1/stream/a%20b"
    long = Request("GET", b"/" + b"a" * 9000, b"", {})
    assert path_of(long) == "/" + "a" * 2047 + "..."


def test_method_and_agent_are_cut() -> None:
    request = Request("A" * 500, b"/", b"", {b"user-agent": b"b" * 500})
    assert method_of(request) == "A" * 200 + "..."
    assert agent_of(request) == "b" * 200 + "..."
    assert agent_of(asked()) == ""


def test_client_is_the_one_that_a_trusted_proxy_names() -> None:
    assert client_of(asked(), "192.0.2.1") == "192.0.2.1"
    assert client_of(asked(client="198.51.100.7"), "192.0.2.1") == "198.51.100.7"
    assert client_of(asked(), None) is None


def test_description_leaves_out_what_is_unknown_and_every_other_header() -> None:
    headers = {b"authorization": b"Bearer hush", b"cookie": b"hush"}
    assert describe(asked(headers=headers), None) == {"method": "GET", "path": "/v1/stream/a%20b"}


def test_description_contains_what_is_known() -> None:
    headers = {X_REQUEST_ID: b"mine", b"user-agent": b"curl"}
    assert describe(asked(b"offset=1&key=hush", headers=headers, subject="ann"), "192.0.2.1") == {
        "method": "GET",
        "path": "/v1/stream/a%20b",
        "query": "offset=1",
        "client": "192.0.2.1",
        "request_id": "mine",
        "subject": "ann",
        "user_agent": "curl",
    }
