"""Tests of the cache of verified tokens, whose memory is bounded."""

from durable_streams_server.access.cache import TokenCache
from durable_streams_server.protocol.permissions import Claims, grant_of
from durable_streams_server.protocol.units import KIB

#: Bytes that a token of one character with CLAIMS takes.
EACH = 5 * KIB // 2 + 1

#: Takes 2.5 KiB and the bytes of the token in the cache.
CLAIMS = Claims("jwt:a", (grant_of(["read"], ["/a"]),), 1_000)


def test_cached_claims_are_returned_until_they_expire() -> None:
    cache = TokenCache()
    assert cache.get("t", 0) is None
    cache.put("t", CLAIMS)
    assert cache.get("t", 999) is CLAIMS
    assert cache.get("t", 1_000) is None
    assert len(cache) == 0
    assert cache.get("t", 999) is None


def test_claims_without_expiry_stay() -> None:
    cache = TokenCache()
    claims = Claims("jwt:a", ())
    cache.put("t", claims)
    assert cache.get("t", 2**60) is claims


def test_full_cache_drops_the_token_that_was_presented_longest_ago() -> None:
    cache = TokenCache(3 * EACH)
    for token in "abc":
        cache.put(token, CLAIMS)
    assert cache.get("a", 0)
    cache.put("d", CLAIMS)
    assert [token for token in "abcd" if cache.get(token, 0)] == ["a", "c", "d"]


def test_tokens_with_many_patterns_and_long_tokens_take_more_room() -> None:
    cache = TokenCache(10 * EACH)
    for token in "abcdefghij":
        cache.put(token, CLAIMS)
    assert len(cache) == 10
    cache.put("k", Claims("jwt:a", (grant_of(["read"], ["/a"] * 6),), 1_000))  # 4 times as much
    assert len(cache) == 7
    cache.put("l" * 5 * KIB, CLAIMS)  # 3 times as much
    assert len(cache) == 5


def test_token_larger_than_the_cache_is_not_kept() -> None:
    cache = TokenCache(KIB)
    cache.put("t", CLAIMS)
    assert len(cache) == 0


def test_putting_a_token_again_replaces_its_claims_and_counts_once() -> None:
    cache = TokenCache(2 * EACH)
    newer = Claims("jwt:a", CLAIMS.grants, 2_000)
    cache.put("a", CLAIMS)
    cache.put("a", newer)
    cache.put("b", CLAIMS)
    assert cache.get("a", 0) is newer
    assert len(cache) == 2


def test_cleared_cache_is_empty_and_has_all_its_room() -> None:
    cache = TokenCache(EACH)
    cache.put("a", CLAIMS)
    cache.clear()
    assert cache.get("a", 0) is None
    cache.put("b", CLAIMS)
    assert cache.get("b", 0) is CLAIMS


def test_memory_stays_bounded_under_many_tokens() -> None:
    cache = TokenCache(100 * KIB)
    for number in range(10_000):
        cache.put(f"{number:04}", CLAIMS)
    assert len(cache) == 100 * KIB // (EACH + 3)
