"""Tests that tokens are accepted only unchanged, with a known key, and until they expire."""

import base64
import itertools
import json
import traceback
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from durable_streams_server.errors import Unauthorized
from durable_streams_server.subscriptions.keys import generate, rotate
from durable_streams_server.subscriptions.tokens import (
    TOKEN_LIFE,
    Claims,
    issue,
    needs_renewal,
    read,
)

SECOND = 1_000_000
NOW = 1_778_324_210 * SECOND + 999_999
KEY = generate(NOW)
TOKEN = issue(KEY, "sub-1", 3, 7, "w", NOW)
END = (1_778_324_210 + TOKEN_LIFE) * SECOND


def refusal_of(token: str, now: int = NOW) -> str:
    """Asserts that a token is refused without being quoted in the error, and returns the error code."""
    with pytest.raises(Unauthorized) as caught:
        read([KEY], token, now)
    assert caught.value.headers == ((b"www-authenticate", b"Bearer"),)
    shown = "".join(traceback.format_exception(caught.value, chain=True))
    assert len(token) < 20 or token not in shown
    return caught.value.code


def forged(payload: dict[str, Any], secret: Any = KEY.secret, algorithm: str = "HS256") -> str:
    return jwt.encode(payload, secret, algorithm, headers={"kid": KEY.kid})


def payload(**changes: Any) -> dict[str, Any]:
    return {"sub": "sub-1", "inc": 3, "gen": 7, "exp": END // SECOND} | changes


def part(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def test_read_returns_the_claims_of_an_issued_token() -> None:
    assert read([KEY], TOKEN, NOW) == Claims("sub-1", 3, 7, "w", END)


@pytest.mark.parametrize("name", ["", "é/ü", "x" * 500, "\U0001f600" * 100])
def test_token_may_contain_any_subscription_id(name: str) -> None:
    assert read([KEY], issue(KEY, name, 0, 0, "w", NOW), NOW).subscription_id == name


def test_token_of_a_retired_key_is_accepted() -> None:
    assert read(rotate([KEY], NOW), TOKEN, NOW).generation == 7


def test_token_is_accepted_until_the_last_microsecond_of_its_life() -> None:
    assert read([KEY], TOKEN, END - 1).expires_at == END
    assert refusal_of(TOKEN, END) == "TOKEN_EXPIRED"


def test_expired_token_with_a_bad_signature_is_invalid() -> None:
    assert refusal_of(forged(payload(), b"x" * 32), END) == "INVALID_TOKEN"


def test_token_needs_renewal_in_the_second_half_of_its_life() -> None:
    claims = read([KEY], TOKEN, NOW)
    half = END - TOKEN_LIFE * SECOND // 2
    assert not needs_renewal(claims, half)
    assert needs_renewal(claims, half + 1)
    later = read([KEY], issue(KEY, "sub-1", 3, 7, "w", half), half)
    assert later.expires_at > claims.expires_at


def test_token_due_for_renewal_is_valid_for_two_more_maximum_leases() -> None:
    assert TOKEN_LIFE / 2 >= 2 * 600


def test_token_with_any_flipped_bit_is_refused() -> None:
    data = TOKEN.encode()
    for place in range(len(data)):
        for bit in range(7):
            changed = bytearray(data)
            changed[place] ^= 1 << bit
            assert refusal_of(changed.decode()) == "INVALID_TOKEN"


def test_token_of_an_unknown_key_is_refused() -> None:
    assert refusal_of(issue(generate(NOW), "sub-1", 3, 7, "w", NOW)) == "INVALID_TOKEN"
    assert refusal_of(forged(payload(), generate(NOW).secret)) == "INVALID_TOKEN"


def test_token_without_a_key_id_is_refused() -> None:
    assert refusal_of(jwt.encode(payload(), KEY.secret, "HS256")) == "INVALID_TOKEN"


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
@pytest.mark.filterwarnings("ignore:The HMAC key")
def test_token_signed_with_another_hash_is_refused(algorithm: str) -> None:
    assert refusal_of(forged(payload(), algorithm=algorithm)) == "INVALID_TOKEN"


def test_unsigned_token_is_refused() -> None:
    header = part(json.dumps({"alg": "none", "typ": "JWT", "kid": KEY.kid}).encode())
    body = part(json.dumps(payload()).encode())
    assert refusal_of(f"{header}.{body}.") == "INVALID_TOKEN"
    assert refusal_of(f"{header}.{body}.{'A' * 43}") == "INVALID_TOKEN"
    assert refusal_of(f"{header}.{body}.{TOKEN.split('.')[2]}") == "INVALID_TOKEN"


def test_token_with_an_asymmetric_signature_is_refused() -> None:
    rsa = generate_private_key(65537, 2048)
    assert refusal_of(forged(payload(), rsa, "RS256")) == "INVALID_TOKEN"


@pytest.mark.parametrize(
    "claims",
    [
        payload(sub=None),
        payload(inc="3"),
        payload(gen=7.5),
        payload(gen=True),
        payload(exp=str(END)),
        {"sub": "sub-1", "inc": 3, "gen": 7},
        {"sub": "sub-1", "inc": 3, "exp": END // SECOND},
        {},
    ],
)
def test_signed_token_with_malformed_claims_is_refused(claims: dict[str, Any]) -> None:
    header = part(json.dumps({"alg": "HS256", "kid": KEY.kid}).encode())
    text = f"{header}.{part(json.dumps(claims).encode())}"
    signature = part(jwt.get_algorithm_by_name("HS256").sign(text.encode(), KEY.secret))
    assert refusal_of(f"{text}.{signature}") == "INVALID_TOKEN"


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "a.b",
        "a.b.c",
        "a.b.c.d",
        "\x00",
        "é.é.é",
        TOKEN + " ",
        " " + TOKEN,
        TOKEN + "\n",
        TOKEN + "=",
        TOKEN.replace(".", ".!", 1),
        "x" * 5000,
    ],
)
def test_malformed_token_is_refused(token: str) -> None:
    assert refusal_of(token) == "INVALID_TOKEN"


@pytest.mark.parametrize(
    "header",
    [
        b"null",
        b"[]",
        b"[" * 2900,  # nested too deeply for a recursive parser
        b"\xff\xfe",
        b'{"alg":"HS256"}',
        b'{"alg":"HS256","kid":7}',
        b'{"alg":"HS256","kid":["a"]}',
        b'{"kid":"%b"}' % KEY.kid.encode(),
        b'{"alg":"HS256","kid":"%b","crit":["b64"],"b64":false}' % KEY.kid.encode(),
    ],
    ids=itertools.count(),  # a key id is random, and test ids must be the same in every process
)
def test_token_with_an_unknown_header_is_refused(header: bytes) -> None:
    assert refusal_of(f"{part(header)}.AA.{'A' * 43}") == "INVALID_TOKEN"
