"""Tests of signed URLs: what they allow, and that nothing but the exact path and time is accepted."""

from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams_server.access.signed_urls import (
    MAX_SIGNED_SECONDS,
    sign_url,
    verify_url,
)
from durable_streams_server.access.static_tokens import (
    StaticToken,
    StaticTokens,
    create_text,
    parse_token,
)
from durable_streams_server.errors import BadRequest, Unauthorized
from durable_streams_server.protocol.paths import decode_path
from durable_streams_server.protocol.permissions import (
    VERBS,
    Claims,
    TokenLimits,
    allows,
    grant_of,
)
from durable_streams_server.protocol.units import SECOND

#: Always the same, because the names of the tests contain parts of it.
TEXT = "dst_0123456789ab_" + "A" * 43
GRANTS = (
    grant_of(["read", "append"], ["/v1/stream/chat/*"]),
    grant_of(["create"], ["/**"]),
    grant_of(["read"], ["/v1/stream/news/**"]),
)
LIMITS = TokenLimits(live_readers=3)
SECONDS = 1_800_000_000
NOW = SECONDS * SECOND
URL = "https://host/v1/stream/chat/a"
PATH = "/v1/stream/chat/a"


def tokens(expires_at: int | None = None) -> StaticTokens:
    """Returns the tokens of a server that knows TEXT."""
    presented = parse_token(TEXT)
    assert presented is not None
    token = StaticToken(presented.id, presented.hash, GRANTS, expires_at=expires_at, limits=LIMITS)
    return StaticTokens((token,))


def query_of(url: str) -> bytes:
    """Returns the query of a URL as the server gets it."""
    return urlsplit(url).query.encode("ascii")


def refusal(query: bytes, path: str = PATH, now: int = NOW) -> str:
    """Returns the code with which a signed URL is refused."""
    with pytest.raises(Unauthorized) as caught:
        verify_url(tokens(), path, query, now)
    assert caught.value.code is not None
    return caught.value.code


def test_signed_url_allows_to_read_one_path() -> None:
    query = query_of(sign_url(URL, TEXT, SECONDS + 300))
    claims = verify_url(tokens(), PATH, query, NOW)
    read = frozenset({"read"})
    assert claims == Claims(
        f"token:{TEXT.split('_')[1]}",
        tuple(grant_of(read, grant.paths) for grant in (GRANTS[0], GRANTS[2])),
        (SECONDS + 300) * SECOND,
        LIMITS,
        only=PATH,
    )
    assert [verb for verb in VERBS if allows(claims, verb, PATH)] == ["read"]
    for other in ("/v1/stream/chat/b", "/v1/stream/news/x", "/v1/stream/chat/a/", "/"):
        assert not any(allows(claims, verb, other) for verb in VERBS)


def test_signed_url_allows_nothing_that_its_token_does_not() -> None:
    url = sign_url("https://host/v1/stream/secret", TEXT, SECONDS + 300)
    claims = verify_url(tokens(), "/v1/stream/secret", query_of(url), NOW)
    assert claims is not None
    assert not any(allows(claims, verb, "/v1/stream/secret") for verb in VERBS)


def test_path_with_a_star_is_no_pattern() -> None:
    url = sign_url("https://host/v1/stream/chat/*", TEXT, SECONDS + 300)
    claims = verify_url(tokens(), "/v1/stream/chat/*", query_of(url), NOW)
    assert claims is not None
    assert allows(claims, "read", "/v1/stream/chat/*")
    assert not allows(claims, "read", "/v1/stream/chat/a")


@pytest.mark.parametrize(
    "url",
    [
        "https://host/v1/stream/chat/%61",
        "http://other:1234/v1/stream/chat/a",
        "https://host/v1%2Fstream/chat/a",
        "HTTPS://host/v1/stream/chat/a",
    ],
)
def test_signature_covers_the_decoded_path_and_not_the_host(url: str) -> None:
    signed = sign_url(url, TEXT, SECONDS + 300)
    assert signed.startswith(f"{url}?token_id=")
    assert query_of(signed) == query_of(sign_url(URL, TEXT, SECONDS + 300))


def test_other_parameters_are_free() -> None:
    signed = sign_url(f"{URL}?offset=-1&live=sse", TEXT, SECONDS + 300)
    assert signed.startswith(f"{URL}?offset=-1&live=sse&token_id=")
    query = query_of(signed)
    assert verify_url(tokens(), PATH, query, NOW)
    assert verify_url(tokens(), PATH, query + b"&cursor=7", NOW)
    assert verify_url(tokens(), PATH, query.replace(b"offset=-1", b"offset=now"), NOW)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20))
def test_every_path_can_be_signed_in_every_spelling(name: str) -> None:
    raw = "/" + quote(name, safe="")
    try:
        path = decode_path(raw.encode())
    except BadRequest:
        with pytest.raises(ValueError, match="the path"):
            sign_url(f"https://host{raw}", TEXT, SECONDS + 1)
        return
    query = query_of(sign_url(f"https://host{raw}", TEXT, SECONDS + 1))
    claims = verify_url(tokens(), path, query, NOW)
    assert claims is not None
    assert claims.only == path
    assert refusal(query, path + "x") == "INVALID_TOKEN"


def test_mount_is_not_part_of_the_signed_path() -> None:
    for mount in ("/api", "api/", "/api/"):
        signed = sign_url("https://host/api/v1/stream/chat/a", TEXT, SECONDS + 300, mount)
        assert query_of(signed) == query_of(sign_url(URL, TEXT, SECONDS + 300))
    assert sign_url(URL, TEXT, SECONDS + 300, "/") == sign_url(URL, TEXT, SECONDS + 300)


@pytest.mark.parametrize(
    ("url", "mount", "said"),
    [
        ("", "", "the URL must begin with https://"),
        ("/v1/stream/a", "", "the URL must begin with https://"),
        ("ftp://host/a", "", "the URL must begin with https://"),
        ("https:///a", "", "the URL must begin with https://"),
        ("https://[::1/a", "", "the URL must begin with https://"),
        ("https://host", "", "the path"),
        ("https://host/", "", "the path names no stream"),
        ("https://host/a//b", "", "the path has an empty segment"),
        ("https://host/a/../b", "", "the path has a dot segment"),
        ("https://host/%zz", "", "malformed percent escape"),
        ("https://host/\ud800", "", "the path is not UTF-8"),
        ("https://host/a#b", "", "the URL must have no fragment"),
        (f"{URL}?signature=x", "", "the URL is already signed"),
        (f"{URL}?token_id=x", "", "the URL is already signed"),
        (f"{URL}?expires=", "", "the URL is already signed"),
        ("https://host/apis/a", "/api", "not below the mount"),
        ("https://host/api", "/api", "not below the mount"),
        (URL, "/a/../b", "the path has a dot segment"),
    ],
)
def test_url_that_cannot_be_signed_is_refused(url: str, mount: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        sign_url(url, TEXT, SECONDS + 300, mount)
    assert TEXT not in str(caught.value)


@pytest.mark.parametrize("token", ["", "hush", "a.b.c", TEXT[:-1]])
def test_text_that_is_no_static_token_cannot_sign(token: str) -> None:
    with pytest.raises(ValueError, match="the token is not a static token") as caught:
        sign_url(URL, token, SECONDS + 300)
    assert not token or token not in str(caught.value)


@pytest.mark.parametrize(
    "query",
    [
        b"",
        b"offset=-1",
        b"expires=5&token_id=x",
        b"signatures=x",
        b"xsignature=x",
        b"x=signature=y",
        b"signature=%ff&token_id=%ff",
        b"&".join([b"signature=x"] * 65),
    ],
)
def test_query_without_readable_signature_is_no_signed_url(query: bytes) -> None:
    assert verify_url(tokens(), PATH, query, NOW) is None


GOOD = dict(parse_qsl(urlsplit(sign_url(URL, TEXT, SECONDS + 300)).query))


@pytest.mark.parametrize(
    "changes",
    [
        {"token_id": None},
        {"expires": None},
        {"token_id": ""},
        {"token_id": "0" * 12},
        {"token_id": GOOD["token_id"].upper()},
        {"token_id": "../x"},
        {"expires": ""},
        {"expires": "0"},
        {"expires": f"0{GOOD['expires']}"},
        {"expires": f"+{GOOD['expires']}"},
        {"expires": f"{GOOD['expires']}.0"},
        {"expires": "9" * 13},
        {"expires": "\u0661" * 10},
        {"expires": str(SECONDS + 301)},
        {"signature": ""},
        {"signature": "A" * 43},
        {"signature": "A" * 44},
        {"signature": GOOD["signature"] + "="},
        {"signature": GOOD["signature"][:-1]},
        {"signature": "\u00e9" * 43},
    ],
    ids=str,
)
def test_changed_parameter_is_refused(changes: dict[str, str | None]) -> None:
    parameters = {k: v for k, v in {**GOOD, **changes}.items() if v is not None}
    assert refusal(urlencode(parameters).encode()) == "INVALID_TOKEN"


@pytest.mark.parametrize("name", GOOD)
def test_repeated_parameter_is_refused(name: str) -> None:
    query = urlencode(GOOD) + f"&{name}={GOOD[name]}"
    assert refusal(query.encode()) == "INVALID_TOKEN"


def test_signature_of_another_token_is_refused() -> None:
    other = query_of(sign_url(URL, create_text(), SECONDS + 300))
    assert refusal(other) == "INVALID_TOKEN"
    mixed = dict(parse_qsl(other.decode())) | {"token_id": GOOD["token_id"]}
    assert refusal(urlencode(mixed).encode()) == "INVALID_TOKEN"


def test_signed_url_ends_at_its_time() -> None:
    query = urlencode(GOOD).encode()
    ends = (SECONDS + 300) * SECOND
    assert verify_url(tokens(), PATH, query, ends - 1)
    assert refusal(query, now=ends) == "TOKEN_EXPIRED"


def test_signed_url_lives_at_most_a_day() -> None:
    ends = SECONDS + MAX_SIGNED_SECONDS
    query = query_of(sign_url(URL, TEXT, ends))
    assert MAX_SIGNED_SECONDS == 24 * 3600
    assert verify_url(tokens(), PATH, query, NOW)
    assert verify_url(tokens(), PATH, query, NOW - 60 * SECOND)  # a signer's clock may be ahead
    assert refusal(query, now=NOW - 60 * SECOND - 1) == "INVALID_TOKEN"


def test_signed_url_ends_with_its_token() -> None:
    query = urlencode(GOOD).encode()
    ends = NOW + 10 * SECOND
    claims = verify_url(tokens(ends), PATH, query, NOW)
    assert claims is not None
    assert claims.expires_at == ends
    with pytest.raises(Unauthorized) as caught:
        verify_url(tokens(ends), PATH, query, ends)
    assert caught.value.code == "TOKEN_EXPIRED"
    with pytest.raises(Unauthorized):
        verify_url(StaticTokens(), PATH, query, NOW)
