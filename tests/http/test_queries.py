"""Parsing of queries, and the cache of short ones."""

import pytest

from durable_streams_server import BadRequest
from durable_streams_server.http import queries
from durable_streams_server.http.queries import parse_read
from durable_streams_server.http.request import Request
from durable_streams_server.protocol.commands import Read
from durable_streams_server.protocol.offsets import Sentinel

A = "/v1/stream/a"


def get(query: bytes, **headers: bytes) -> Read:
    """Returns the command for a GET with this query."""
    named = {name.replace("_", "-").encode(): value for name, value in headers.items()}
    return parse_read(A, Request("GET", A.encode(), query, named))


def test_parse_read_returns_the_path_and_the_parameters() -> None:
    read = get(b"offset=now&live=long-poll&cursor=7&unknown=1")
    assert read == Read(A, Sentinel.NOW, "long-poll", read.cursor)
    assert read.cursor is not None
    assert get(b"") == Read(A, Sentinel.START)


def test_only_short_queries_are_cached() -> None:
    short = b"offset=-1&x=kept"
    long = b"offset=-1&x=" + b"y" * queries._SHORT_QUERY
    queries._parse_query.cache_clear()
    assert get(long) == get(long) == Read(A, Sentinel.START)
    assert queries._parse_query.cache_info().hits == 0
    assert get(short) == get(short) == Read(A, Sentinel.START)
    assert queries._parse_query.cache_info().hits == 1


def test_signature_of_url_is_not_cached_with_its_query() -> None:
    queries._parse_query.cache_clear()
    for signature in (b"one", b"two"):
        found = get(b"token_id=t&offset=-1&expires=9&signature=" + signature + b"&live=sse")
        assert (found.offset, found.live) == (Sentinel.START, "sse")
    assert queries._parse_query.cache_info().currsize == 1


def test_last_event_id_replaces_the_offset_of_a_cached_query() -> None:
    query = b"offset=-1&live=sse"
    assert get(query).offset is Sentinel.START
    resumed = get(query, last_event_id=b"%016d_%016d" % (3, 4))
    assert str(resumed.offset) == "0000000000000003_0000000000000004"
    assert get(query).offset is Sentinel.START


@pytest.mark.parametrize("query", [b"offset=%ff", b"&".join([b"a=1"] * 65)])
def test_malformed_query_is_refused(query: bytes) -> None:
    with pytest.raises(BadRequest) as refused:
        get(query)
    assert refused.value.code == "INVALID_QUERY"
