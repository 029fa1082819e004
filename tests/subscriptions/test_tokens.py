"""Tokens: taken only as they were issued, by a kept key, for their life."""

import base64
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


def refused(token: str, now: int = NOW) -> str:
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


def test_what_is_issued_is_read() -> None:
    assert read([KEY], TOKEN, NOW) == Claims("sub-1", 3, 7, "w", END)


@pytest.mark.parametrize("name", ["", "é/ü", "x" * 500, "\U0001f600" * 100])
def test_any_subscription_id_comes_back(name: str) -> None:
    assert read([KEY], issue(KEY, name, 0, 0, "w", NOW), NOW).subscription_id == name


def test_a_token_of_a_retired_key_is_taken() -> None:
    assert read(rotate([KEY], NOW), TOKEN, NOW).generation == 7


def test_a_token_lives_to_its_last_microsecond() -> None:
    assert read([KEY], TOKEN, END - 1).expires_at == END
    assert refused(TOKEN, END) == "TOKEN_EXPIRED"


def test_an_expired_token_with_a_bad_signature_is_no_more_than_invalid() -> None:
    assert refused(forged(payload(), b"x" * 32), END) == "INVALID_TOKEN"


def test_a_token_is_renewed_in_the_second_half_of_its_life() -> None:
    claims = read([KEY], TOKEN, NOW)
    half = END - TOKEN_LIFE * SECOND // 2
    assert not needs_renewal(claims, half)
    assert needs_renewal(claims, half + 1)
    later = read([KEY], issue(KEY, "sub-1", 3, 7, "w", half), half)
    assert later.expires_at > claims.expires_at


def test_the_longest_lease_fits_into_what_is_left_at_renewal() -> None:
    assert TOKEN_LIFE / 2 >= 2 * 600


def test_a_bit_flipped_anywhere_is_refused() -> None:
    data = TOKEN.encode()
    for place in range(len(data)):
        for bit in range(7):
            changed = bytearray(data)
            changed[place] ^= 1 << bit
            assert refused(changed.decode()) == "INVALID_TOKEN"


def test_a_token_of_another_key_is_refused() -> None:
    assert refused(issue(generate(NOW), "sub-1", 3, 7, "w", NOW)) == "INVALID_TOKEN"
    assert refused(forged(payload(), generate(NOW).secret)) == "INVALID_TOKEN"


def test_a_token_without_a_key_id_is_refused() -> None:
    assert refused(jwt.encode(payload(), KEY.secret, "HS256")) == "INVALID_TOKEN"


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
@pytest.mark.filterwarnings("ignore:The HMAC key")
def test_another_hash_is_refused(algorithm: str) -> None:
    assert refused(forged(payload(), algorithm=algorithm)) == "INVALID_TOKEN"


def test_an_unsigned_token_is_refused() -> None:
    header = part(json.dumps({"alg": "none", "typ": "JWT", "kid": KEY.kid}).encode())
    body = part(json.dumps(payload()).encode())
    assert refused(f"{header}.{body}.") == "INVALID_TOKEN"
    assert refused(f"{header}.{body}.{'A' * 43}") == "INVALID_TOKEN"
    assert refused(f"{header}.{body}.{TOKEN.split('.')[2]}") == "INVALID_TOKEN"


def test_an_asymmetric_signature_is_refused() -> None:
    rsa = generate_private_key(65537, 2048)
    assert refused(forged(payload(), rsa, "RS256")) == "INVALID_TOKEN"


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
def test_our_key_on_claims_that_are_not_ours_is_refused(claims: dict[str, Any]) -> None:
    header = part(json.dumps({"alg": "HS256", "kid": KEY.kid}).encode())
    text = f"{header}.{part(json.dumps(claims).encode())}"
    signature = part(jwt.get_algorithm_by_name("HS256").sign(text.encode(), KEY.secret))
    assert refused(f"{text}.{signature}") == "INVALID_TOKEN"


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
def test_what_is_no_token_is_refused(token: str) -> None:
    assert refused(token) == "INVALID_TOKEN"


@pytest.mark.parametrize(
    "header",
    [
        b"null",
        b"[]",
        b"[" * 2900,  # deeper than a recursive parser goes
        b"\xff\xfe",
        b'{"alg":"HS256"}',
        b'{"alg":"HS256","kid":7}',
        b'{"alg":"HS256","kid":["a"]}',
        b'{"kid":"%b"}' % KEY.kid.encode(),
        b'{"alg":"HS256","kid":"%b","crit":["b64"],"b64":false}' % KEY.kid.encode(),
    ],
)
def test_a_header_that_is_not_ours_is_refused(header: bytes) -> None:
    assert refused(f"{part(header)}.AA.{'A' * 43}") == "INVALID_TOKEN"
