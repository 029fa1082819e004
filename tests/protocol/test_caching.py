"""Tests of ETag and Cache-Control: no 304 hides that a stream was closed, and no cached page outlives its stream."""

import pytest

from durable_streams_server.protocol import caching
from durable_streams_server.protocol.lifetime import FOREVER, Lifetime
from durable_streams_server.protocol.media import parse_media_type
from durable_streams_server.protocol.offsets import ZERO, Offset, Sentinel
from durable_streams_server.protocol.state import StreamState
from tests.requests import NOW, SECOND


def state(lifetime: Lifetime = FOREVER) -> StreamState:
    """Returns an open text stream."""
    return StreamState("/a", 1, parse_media_type("text/plain"), lifetime, NOW)


def test_etag_differs_for_pages_at_the_tail_and_for_closed_streams() -> None:  # TRAPS 23
    tags = {
        caching.etag(state(), 0, 5, at_tail, closed)
        for at_tail, closed in ((False, False), (True, False), (True, True))
    }
    assert len(tags) == 3
    assert all(caching.compressed_etag(tag) not in tags for tag in tags)


@pytest.mark.parametrize(
    ("header", "matches"),
    [
        (b'"x"', True),
        (b'W/"x"', True),
        (b'"y", "x"', True),
        (b" * ", True),
        (b'"y"', False),
        (b"x", False),
        (b"", False),
    ],
)
def test_if_none_match_is_compared_weakly(header: bytes, matches: bool) -> None:
    assert caching.etag_matches(header, b'"x"') is matches


OWN, OTHER = Offset(1, 5), Offset(0, 5)


@pytest.mark.parametrize(
    ("offset", "at_tail", "closed", "settled"),
    [
        (OWN, False, False, True),
        (OWN, True, True, True),
        (OWN, True, False, False),
        # The offset belongs to an ancestor, so another fork at this path may share it.
        (OTHER, False, False, False),
        (OTHER, True, True, False),
        (ZERO, False, False, False),
        (Sentinel.START, False, False, False),
        (Sentinel.START, True, True, False),
    ],
)
def test_page_is_settled_if_no_present_or_later_stream_can_change_it(
    offset: Offset | Sentinel, at_tail: bool, closed: bool, settled: bool
) -> None:
    assert caching.is_settled(state(), offset, at_tail, closed) is settled


@pytest.mark.parametrize(
    ("lifetime", "expected"),
    [
        (FOREVER, b"public, max-age=86400"),
        (Lifetime(ttl=86_400), b"public, max-age=86400"),
        (Lifetime(ttl=3600), b"public, max-age=3600"),
        (Lifetime(ttl=7), b"public, max-age=7"),
        (Lifetime(expires_at=NOW + 5 * SECOND), b"public, max-age=5"),
        (Lifetime(expires_at=NOW - SECOND), b"public, max-age=0"),
    ],
)
def test_settled_page_is_cached_no_longer_than_its_stream_lives(
    lifetime: Lifetime, expected: bytes
) -> None:
    assert caching.page_cache_control(state(lifetime), NOW, settled=True) == expected


@pytest.mark.parametrize("name", [b"authorization", b"cookie"])
def test_page_requested_with_credentials_is_private(name: bytes) -> None:  # TRAPS 42
    headers = {name: b"x"}

    def cache_control(settled: bool, shared_age: int) -> bytes:
        return caching.page_cache_control(
            state(), NOW, settled=settled, headers=headers, shared_age=shared_age
        )

    assert cache_control(True, 0) == cache_control(True, 5) == b"private, max-age=86400"
    assert cache_control(False, 0) == cache_control(False, 5) == b"no-cache"


@pytest.mark.parametrize("name", [b"authorization", b"cookie"])
def test_shared_caches_may_keep_pages_of_public_streams_requested_with_credentials(
    name: bytes,
) -> None:
    public = state()
    public.public = True
    for settled in (True, False):
        with_credentials, without = (
            caching.page_cache_control(public, NOW, settled=settled, headers=headers, shared_age=5)
            for headers in ({name: b"x"}, {})
        )
        assert with_credentials == without
        assert with_credentials.startswith(b"public")


def test_unsettled_page_is_revalidated_unless_shared_age_is_set() -> None:
    def cache_control(lifetime: Lifetime, shared_age: int) -> bytes:
        return caching.page_cache_control(
            state(lifetime), NOW, settled=False, shared_age=shared_age
        )

    assert cache_control(FOREVER, 0) == cache_control(Lifetime(ttl=7), 0) == b"no-cache"
    shared = b"public, max-age=0, s-maxage=%d, must-revalidate"
    assert cache_control(FOREVER, 10) == shared % 10
    assert cache_control(Lifetime(ttl=7), 10) == shared % 7
