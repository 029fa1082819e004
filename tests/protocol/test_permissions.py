"""Tests of grants, of the decisions that follow from them, and of the sentences that explain these decisions."""

import itertools

import pytest

from durable_streams_server.protocol.permissions import (
    MAX_PATTERNS,
    VERBS,
    Claims,
    Grant,
    TokenLimits,
    Verb,
    allows,
    allows_pattern,
    check_grants,
    explain,
    grant_of,
    parse_grant,
)

CHAT = Claims(
    "token:a",
    (
        grant_of(["read", "append"], ["/v1/stream/chat/*"]),
        grant_of(["read"], ["/v1/stream/news/**", "/v1/stream/chat/a/b"]),
    ),
)


@pytest.mark.parametrize(
    ("verb", "path"),
    [
        ("read", "/v1/stream/chat/a"),
        ("append", "/v1/stream/chat/a"),
        ("append", "/v1/stream/chat/ä b"),
        ("read", "/v1/stream/news"),
        ("read", "/v1/stream/news/"),
        ("read", "/v1/stream/news/x/y"),
        ("read", "/v1/stream/chat/a/b"),
    ],
)
def test_grant_allows_its_verbs_on_its_paths(verb: Verb, path: str) -> None:
    assert allows(CHAT, verb, path)


@pytest.mark.parametrize(
    ("verb", "path"),
    [
        *[(verb, "/v1/stream/chat/a") for verb in VERBS if verb not in ("read", "append")],
        ("append", "/v1/stream/news/x"),
        ("append", "/v1/stream/chat/a/b"),
        ("read", "/v1/stream/chat"),
        ("read", "/v1/stream/chat/"),
        ("read", "/v1/stream/Chat/a"),
        ("read", "/v1/stream/chatter/a"),
        ("read", "/chat/a"),
        ("read", "/"),
        ("read", "/v1/stream/__ds/subscriptions/s"),
    ],
)
def test_what_no_grant_allows_is_forbidden(verb: Verb, path: str) -> None:
    assert not allows(CHAT, verb, path)


@pytest.mark.parametrize("verb", VERBS)
def test_claims_without_grants_allow_nothing(verb: Verb) -> None:
    assert not allows(Claims("token:a", ()), verb, "/v1/stream/a")
    assert not allows_pattern(Claims("token:a", ()), verb, "/v1/stream/a")


def test_every_verb_is_separate() -> None:
    for granted, used in itertools.product(VERBS, VERBS):
        claims = Claims("token:a", (grant_of([granted], ["/**"]),))
        assert allows(claims, used, "/a") == (granted == used)
        assert allows_pattern(claims, used, "/**") == (granted == used)


def test_pattern_is_allowed_if_grants_cover_it_together() -> None:
    claims = Claims(
        "token:a",
        (
            grant_of(["read"], ["/s/b"]),
            grant_of(["append"], ["/s/**"]),
            grant_of(["append", "read"], ["/s/*/**/b"]),
        ),
    )
    assert allows_pattern(claims, "read", "/s/**/b")
    assert allows_pattern(claims, "read", "/s/x/*/b")
    assert not allows_pattern(claims, "read", "/s/**")
    assert allows_pattern(claims, "append", "/s/**")


def test_signed_url_restricts_the_grants_to_its_path() -> None:
    claims = Claims("token:a", CHAT.grants, only="/v1/stream/chat/*")
    assert allows(claims, "read", "/v1/stream/chat/*")
    assert not allows(claims, "read", "/v1/stream/chat/a")
    assert not allows_pattern(claims, "read", "/v1/stream/chat/*")
    plain = Claims("token:a", CHAT.grants, only="/v1/stream/chat/a")
    assert allows_pattern(plain, "read", "/v1/stream/chat/a")
    assert not allows_pattern(plain, "read", "/v1/stream/chat/b")


@pytest.mark.parametrize(
    ("claims", "verb", "path", "allowed", "reason"),
    [
        (CHAT, "append", "/v1/stream/chat/a", True, "the token allows append on /v1/stream/chat/*"),
        (
            CHAT,
            "delete",
            "/v1/stream/chat/a",
            False,
            "the token allows only append, read on this path",
        ),
        (
            CHAT,
            "read",
            "/v1/stream/x",
            False,
            "the token allows read only on /v1/stream/chat/*, /v1/stream/news/**, /v1/stream/chat/a/b",
        ),
        (CHAT, "admin", "/v1/stream/x", False, "the token allows admin nowhere"),
        (
            Claims("token:a", CHAT.grants, 1_000),
            "read",
            "/v1/stream/chat/a",
            False,
            "the token has expired",
        ),
        (
            Claims("token:a", CHAT.grants, only="/v1/stream/chat/b"),
            "read",
            "/v1/stream/chat/a",
            False,
            "the URL was signed for /v1/stream/chat/b alone",
        ),
    ],
)
def test_explanation_gives_the_decision_and_its_reason(
    claims: Claims, verb: Verb, path: str, allowed: bool, reason: str
) -> None:
    assert explain(claims, verb, path, 1_000) == (allowed, reason)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("path", ["/v1/stream/chat/a", "/v1/stream/news", "/v1/stream/x"])
@pytest.mark.parametrize("only", [None, "/v1/stream/news"])
def test_explanation_agrees_with_the_decision(verb: Verb, path: str, only: str | None) -> None:
    claims = Claims("token:a", CHAT.grants, 1_000, only=only)
    assert explain(claims, verb, path, 999).allowed == allows(claims, verb, path)


def test_grant_is_parsed_from_text_and_printed_in_the_order_of_verbs() -> None:
    grant = parse_grant("read,append:/v1/stream/chat/*")
    assert grant == Grant(frozenset({"append", "read"}), ("/v1/stream/chat/*",))
    assert grant.texts == ["append,read:/v1/stream/chat/*"]
    assert grant_of(["read"], ["/a", "/b"]).texts == ["read:/a", "read:/b"]
    assert parse_grant("read:/a:b").paths == ("/a:b",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "a grant is verbs, a colon and a path"),
        ("read", "a grant is verbs, a colon and a path"),
        (":/a", "a grant is verbs, a colon and a path"),
        ("read, append:/a", "a grant is verbs, a colon and a path"),
        ("READ:/a", "a grant is verbs, a colon and a path"),
        ("write:/a", "there is no such verb; the verbs are create, append, read, close, delete"),
        ("read:a", "a path must begin with a slash"),
        ("read:", "a path must begin with a slash"),
        ("read:/", "the pattern"),
        ("read:/a/", "the pattern has an empty segment"),
        ("read:/a//b", "the pattern"),
        ("read:/a/../b", "the pattern"),
        ("read:/a**", "the pattern has \\*\\* beside other characters"),
        ("read:/" + "a" * 500, "500 bytes"),
    ],
)
def test_malformed_grant_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_grant(text)


@pytest.mark.parametrize(("verbs", "paths"), [([], ["/a"]), (["read"], [])])
def test_grant_without_verbs_or_paths_is_refused(verbs: list[str], paths: list[str]) -> None:
    with pytest.raises(ValueError, match="at least one verb and one path"):
        grant_of(verbs, paths)


def test_number_of_patterns_is_limited() -> None:
    full = grant_of(["read"], ["/a"] * (MAX_PATTERNS - 1)), grant_of(["read"], ["/b"])
    assert check_grants(full) == full
    with pytest.raises(ValueError, match=f"at most {MAX_PATTERNS} paths"):
        check_grants((*full, grant_of(["read"], ["/c"])))
    with pytest.raises(ValueError, match="at least one grant"):
        check_grants(())


@pytest.mark.parametrize("name", TokenLimits.__struct_fields__)
def test_limits_are_positive_numbers(name: str) -> None:
    assert getattr(TokenLimits(**{name: 1}), name) == 1
    assert getattr(TokenLimits(**{name: 2**53 - 1}), name) == 2**53 - 1
    for value in (0, -1, 2**53):
        with pytest.raises(ValueError, match=f"the limit {name} must be from 1"):
            TokenLimits(**{name: value})
