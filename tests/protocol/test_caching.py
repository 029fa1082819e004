"""ETags and Cache-Control: nothing hides the end, nothing outlives its stream."""

import pytest

from durable_streams_server.protocol import caching
from durable_streams_server.protocol.lifetime import FOREVER, Lifetime
from durable_streams_server.protocol.media import parse_media_type
from durable_streams_server.protocol.state import StreamState
from tests.requests import NOW, SECOND


def state(lifetime: Lifetime = FOREVER) -> StreamState:
    return StreamState("/a", 1, parse_media_type("text/plain"), lifetime, NOW)


def test_the_tag_varies_with_what_the_headers_say() -> None:  # TRAPS 23
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


@pytest.mark.parametrize(
    ("lifetime", "empty", "closed", "expected"),
    [
        (FOREVER, False, False, b"public, max-age=60, stale-while-revalidate=300"),
        (FOREVER, True, True, b"public, max-age=60, stale-while-revalidate=300"),
        (FOREVER, True, False, b"no-cache"),
        (Lifetime(ttl=3600), False, False, b"public, max-age=60, stale-while-revalidate=300"),
        (Lifetime(ttl=90), False, False, b"public, max-age=60"),
        (Lifetime(ttl=7), False, False, b"public, max-age=7"),
        (Lifetime(expires_at=NOW + 5 * SECOND), False, False, b"public, max-age=5"),
        (Lifetime(expires_at=NOW - SECOND), False, False, b"public, max-age=0"),
    ],
)
def test_a_page_is_kept_no_longer_than_its_stream(
    lifetime: Lifetime, empty: bool, closed: bool, expected: bytes
) -> None:
    assert caching.page_cache_control(state(lifetime), NOW, empty, closed) == expected
