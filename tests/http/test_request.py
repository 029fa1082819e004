"""The limits of a request's head, and the headers that are repeated in it."""

import pytest

from durable_streams_server.errors import BadRequest, HeadersTooLarge, TooLarge, UriTooLong
from durable_streams_server.http.request import LISTS, Request, index_headers
from durable_streams_server.protocol.limits import MAX_HEADER_BYTES, MAX_HEADER_COUNT, MAX_URL_BYTES


def make(
    pairs: list[tuple[bytes, bytes]] | None = None, path: bytes = b"/a", query: bytes = b""
) -> Request:
    """Returns a POST request with these headers."""
    headers, repeated, size = index_headers(pairs or [])
    return Request("POST", path, query, headers, repeated, size)


def test_headers_are_indexed_and_repeated_names_are_recorded() -> None:
    headers, repeated, size = index_headers([(b"a", b"1"), (b"b", b"2"), (b"a", b"3")])
    assert (headers, repeated, size) == ({b"a": b"1", b"b": b"2"}, frozenset({b"a"}), 6)


def test_repeated_list_headers_are_joined() -> None:  # RFC 9110, 5.3
    for name in sorted(LISTS):
        headers, repeated, _ = index_headers(
            [(name, b"a"), (b"x", b"y"), (name, b"b"), (name, b"c ")]
        )
        # RFC 9113, 8.2.3: cookies are joined with semicolons
        joined = b"a; b; c" if name == b"cookie" else b"a, b, c"
        assert headers == {name: joined, b"x": b"y"}
        assert repeated == {name}


def test_white_space_around_header_value_is_removed() -> None:  # RFC 9110, 5.5
    headers, _, _ = index_headers([(b"stream-closed", b" true\t ")])
    assert headers == {b"stream-closed": b"true"}


def test_unknown_transfer_coding_is_refused() -> None:
    make([(b"transfer-encoding", b"Chunked")]).check_limits(0)
    for coding in (b"gzip, chunked", b"identity", b""):
        with pytest.raises(BadRequest) as caught:
            make([(b"transfer-encoding", coding)]).check_limits(0)
        assert caught.value.code == "INVALID_HTTP"


@pytest.mark.parametrize(
    ("value", "length"),
    [(b"7", 7), (b"007", 7), (b"0" * 10_000, 0), (b"0" * 10_000 + b"7", 7), (None, None)],
)
def test_check_limits_sets_declared_length(value: bytes | None, length: int | None) -> None:
    request = make([] if value is None else [(b"content-length", value)])
    request.check_limits(10)
    assert request.declared == length


@pytest.mark.parametrize("value", [b"", b"-1", b"+1", b"x", b"1, 1", b"1_0", b"\xb2"])
def test_content_length_that_is_no_number_is_refused(value: bytes) -> None:
    with pytest.raises(BadRequest) as caught:
        make([(b"content-length", value)]).check_limits(10)
    assert caught.value.code == "INVALID_HTTP"


@pytest.mark.parametrize("digits", [18, 19, 4300, 4301, 30_000])
def test_content_length_with_many_digits_is_too_large(digits: int) -> None:
    with pytest.raises(TooLarge):
        make([(b"content-length", b"9" * digits)]).check_limits(10**17)


def test_head_within_limits_is_accepted() -> None:
    make([(b"content-length", b"10")], path=b"/" * MAX_URL_BYTES).check_limits(10)
    make([(b"%d" % number, b"") for number in range(MAX_HEADER_COUNT)]).check_limits(0)
    make([(b"x", b"y" * (MAX_HEADER_BYTES - 1))]).check_limits(0)
    make([(b"accept", b"a"), (b"accept", b"b")]).check_limits(0)


def test_head_beyond_limit_is_refused() -> None:
    with pytest.raises(UriTooLong):
        make(path=b"/" * MAX_URL_BYTES, query=b"x").check_limits(0)
    with pytest.raises(HeadersTooLarge):
        make([(b"%d" % number, b"") for number in range(MAX_HEADER_COUNT + 1)]).check_limits(0)
    with pytest.raises(HeadersTooLarge):
        make([(b"x", b"y" * MAX_HEADER_BYTES)]).check_limits(0)
    with pytest.raises(TooLarge):
        make([(b"content-length", b"11")]).check_limits(10)
    with pytest.raises(BadRequest) as caught:
        make([(b"stream-ttl", b"1"), (b"stream-ttl", b"1")]).check_limits(0)
    assert caught.value.code == "REPEATED_HEADER"


def test_shown_request_has_no_secret() -> None:
    """Tools that report errors show the local variables of frames."""
    secret = make([(b"authorization", b"Bearer hush")], b"/a", b"signature=hush")
    secret.body = b"hush"
    assert repr(secret) == "Request('POST', b'/a')"
    assert secret.__rich_repr__() == [("method", "POST"), ("raw_path", b"/a")]
