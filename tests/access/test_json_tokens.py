"""Tests of JSON Web Tokens: what a valid one gives, and every reason to refuse one."""

import json
from collections.abc import Iterator
from typing import Any

import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives import serialization

from durable_streams_server.access.json_tokens import (
    MAX_JSON_TOKEN_BYTES,
    UnknownKey,
    verify,
)
from durable_streams_server.access.jwt_rules import ALGORITHMS, JwtRules
from durable_streams_server.access.key_set import KeySet, parse_key_set
from durable_streams_server.errors import Unauthorized
from durable_streams_server.protocol.limits import MAX_TIME
from durable_streams_server.protocol.permissions import Claims, TokenLimits, grant_of
from durable_streams_server.protocol.units import SECOND
from tests.access.provider import (
    AUDIENCE,
    ISSUER,
    NOW,
    NOW_SECONDS,
    READ_CHAT,
    RULES,
    claims,
    encode,
    issue,
    key_set,
    private_key,
    public_jwk,
    sign_raw,
    usual_key_set,
)

KEYS = parse_key_set(usual_key_set())
HEADER = {"alg": "EdDSA", "kid": "k1"}


def refusal(token: str, keys: KeySet = KEYS, rules: JwtRules = RULES, now: int = NOW) -> str:
    """Returns the message with which a token is refused as invalid."""
    with pytest.raises(Unauthorized) as caught:
        verify(token, keys, rules, now)
    assert caught.value.code == "INVALID_TOKEN"
    assert caught.value.__cause__ is None
    return caught.value.message


def test_valid_token_gives_its_claims() -> None:
    limits = {"live_readers": 5, "appends_per_second": 10}
    token = issue(limits=limits, jti="1", iat=NOW_SECONDS, nbf=NOW_SECONDS, email="a@b.example")
    assert verify(token, KEYS, RULES, NOW) == Claims(
        "jwt:ann",
        (grant_of(["read"], ["/v1/stream/chat/*"]),),
        (NOW_SECONDS + 600 + 30) * SECOND,
        TokenLimits(live_readers=5, appends_per_second=10),
    )


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_token_of_each_algorithm_is_accepted_only_if_the_operator_allows_it(algorithm: str) -> None:
    keys = parse_key_set(usual_key_set(algorithm=algorithm))
    token = issue(algorithm)
    only = JwtRules(ISSUER, AUDIENCE, (algorithm,))
    assert verify(token, keys, only, NOW).subject == "jwt:ann"
    others = JwtRules(ISSUER, AUDIENCE, tuple(each for each in ALGORITHMS if each != algorithm))
    assert refusal(token, keys, others) == "the token is not valid here"


def public_texts() -> Iterator[str | bytes]:
    """Yields texts of the public key that an attacker may use as an HMAC secret."""
    key = private_key("RS256").public_key()
    for encoding in (serialization.Encoding.PEM, serialization.Encoding.DER):
        yield key.public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)
    yield json.dumps(public_jwk(private_key("RS256"), kid="k1"))
    yield usual_key_set(algorithm="RS256")


@pytest.mark.parametrize("secret", list(public_texts()), ids=["pem", "der", "jwk", "jwks"])
@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_hmac_with_the_public_key_as_secret_is_refused(algorithm: str, secret: Any) -> None:
    """TRAPS 43. PyJWT refuses to sign with such a secret, so the test signs with its algorithm alone."""
    keys = parse_key_set(usual_key_set(algorithm="RS256"))
    secret = secret.encode() if isinstance(secret, str) else secret
    signed = f"{encode({'alg': algorithm, 'kid': 'k1'})}.{encode(claims())}"
    hmac = jwt.PyJWS().get_algorithm_by_name(algorithm)
    token = f"{signed}.{encode(hmac.sign(signed.encode(), secret))}"
    assert refusal(token, keys) == "the token is not valid here"
    # A rule that allows it cannot be made, except by force, and even then no such algorithm exists.
    forced = JwtRules(ISSUER, AUDIENCE)
    msgspec.structs.force_setattr(forced, "algorithms", (algorithm,))
    with pytest.raises(UnknownKey):
        verify(token, keys, forced, NOW)


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", ""])
def test_token_without_signature_is_refused(algorithm: str) -> None:
    header = encode({"alg": algorithm, "kid": "k1"})
    signature = issue().rsplit(".", 1)[1]
    for end in ("", ".", ".AA", f".{signature}"):
        assert refusal(f"{header}.{encode(claims())}{end}") == "the token is not valid here"


def test_signature_of_another_key_is_refused() -> None:
    other = parse_key_set(key_set(public_jwk(private_key("EdDSA"), kid="k1")))
    assert verify(issue(), other, RULES, NOW)
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    stolen = issue(key=Ed25519PrivateKey.generate())
    assert refusal(stolen) == "the token is not valid here"


def test_changed_claims_are_refused() -> None:
    header, _, signature = issue().split(".")
    changed = encode(claims(streams=[{"verbs": ["admin"], "paths": ["/**"]}]))
    assert refusal(f"{header}.{changed}.{signature}") == "the token is not valid here"


def test_every_changed_character_is_refused() -> None:
    token = issue()
    for place, character in enumerate(token):
        changed = token[:place] + ("A" if character != "A" else "B") + token[place + 1 :]
        with pytest.raises((Unauthorized, UnknownKey)):
            verify(changed, KEYS, RULES, NOW)


@pytest.mark.parametrize(
    "header",
    [
        {"kid": "k1"},
        {"alg": 1, "kid": "k1"},
        {"alg": ["EdDSA"], "kid": "k1"},
        {"alg": "EdDSA", "kid": 1},
        {**HEADER, "crit": ["b64"], "b64": False},
        {**HEADER, "crit": ["exp"]},
        {**HEADER, "crit": []},
        {**HEADER, "b64": False},
        [],
        "EdDSA",
        b"\xff",
        b"",
        pytest.param(b"[" * 5_000, id="deep array"),
        pytest.param(b'{"alg":' + b"[" * 3_000, id="deep algorithm"),
    ],
)
def test_malformed_or_critical_header_is_refused(header: Any) -> None:
    assert refusal(sign_raw(header, claims())) == "the token is not valid here"


@pytest.mark.parametrize(
    "token",
    ["", ".", "..", "a.b", "a.b.c.d", "a b.c.d", "ä.b.c", "a=.b.c", "a.b.c\n", "eyJ.e30.", "a.b.c"],
)
def test_text_in_another_form_is_refused(token: str) -> None:
    assert refusal(token) == "the token is not valid here"


def test_token_of_the_greatest_size_is_accepted_and_a_longer_one_is_not() -> None:
    def padded(size: int) -> str:
        return issue(pad="x" * size)

    size = next(size for size in range(5_900, 0, -1) if len(padded(size)) <= MAX_JSON_TOKEN_BYTES)
    assert len(padded(size)) in range(MAX_JSON_TOKEN_BYTES - 2, MAX_JSON_TOKEN_BYTES + 1)
    assert verify(padded(size), KEYS, RULES, NOW)
    assert refusal(padded(size + 3)) == "the token is not valid here"


@pytest.mark.parametrize(
    ("token", "keys"),
    [
        (issue(kid="k2"), KEYS),
        (issue(kid=""), KEYS),
        (issue("ES256"), KEYS),  # the key with this id is for EdDSA
        (issue(), None),
        (
            issue(kid=None),
            parse_key_set(
                key_set(*(public_jwk(private_key("EdDSA"), kid=kid) for kid in ("k1", "k2")))
            ),
        ),
    ],
    ids=["unknown id", "empty id", "other algorithm", "no keys", "several keys"],
)
def test_token_whose_key_is_missing_raises_unknown_key(token: str, keys: KeySet | None) -> None:
    with pytest.raises(UnknownKey):
        verify(token, keys, RULES, NOW)


def test_token_without_key_id_is_verified_with_the_only_key() -> None:
    assert verify(issue(kid=None), KEYS, RULES, NOW).subject == "jwt:ann"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"iss": "https://other.example"}, "the token is from another issuer"),
        ({"iss": f"{ISSUER}/"}, "the token is from another issuer"),
        ({"iss": None}, "the claims of the token are not valid: object missing required field iss"),
        ({"iss": 1}, "the claims of the token are not valid: at $.iss: expected str, got int"),
        ({"iss": [ISSUER]}, "the claims of the token are not valid: at $.iss"),
        ({"aud": "other"}, "the token is for another audience"),
        ({"aud": ["other", "STREAMS"]}, "the token is for another audience"),
        ({"aud": []}, "the token is for another audience"),
        ({"aud": None}, "the claims of the token are not valid: object missing required field aud"),
        ({"aud": [1]}, "the claims of the token are not valid: at $.aud"),
        ({"exp": None}, "the claims of the token are not valid: object missing required field exp"),
        ({"exp": "soon"}, "the claims of the token are not valid: at $.exp"),
        ({"exp": True}, "the claims of the token are not valid: at $.exp"),
        ({"nbf": "x"}, "the claims of the token are not valid: at $.nbf"),
        ({"sub": None}, "the claims of the token are not valid: object missing required field sub"),
        ({"sub": ""}, "the subject of the token must have 1 to 256 characters"),
        ({"sub": "x" * 257}, "the subject of the token must have 1 to 256 characters"),
        ({"streams": None}, "the claims of the token are not valid: object missing"),
        ({"streams": []}, "the claims of the token are not valid: a token needs at least one"),
        ({"streams": READ_CHAT * 65}, "the claims of the token are not valid: the grants"),
        ({"streams": {"verbs": ["read"]}}, "the claims of the token are not valid: at $.streams"),
        (
            {"streams": [{"verbs": ["write"], "paths": ["/a"]}]},
            "the claims of the token are not valid: there is no such verb",
        ),
        (
            {"streams": [{"verbs": ["read"], "paths": ["a"]}]},
            "the claims of the token are not valid: a path must begin with a slash",
        ),
        (
            {"streams": [{"verbs": ["read"], "paths": ["/a"], "more": 1}]},
            "the claims of the token are not valid: at $.streams[0]: there is a field",
        ),
        ({"limits": {"live_readers": 0}}, "the claims of the token are not valid: at $.limits"),
        ({"limits": {"unknown": 1}}, "the claims of the token are not valid: at $.limits"),
        ({"limits": []}, "the claims of the token are not valid: at $.limits"),
    ],
)
def test_token_with_wrong_claims_is_refused_with_the_reason(
    changes: dict[str, Any], said: str
) -> None:
    # `jwt.encode` checks some claims itself, so the test signs without it.
    assert refusal(sign_raw(HEADER, claims(**changes))).startswith(said)


@pytest.mark.parametrize(
    "payload", [b"", b"[]", b"\xff", b"{", pytest.param(b"[" * 4_000, id="deep"), b'{"iss":"\xff"}']
)
def test_payload_that_is_no_object_is_refused(payload: bytes) -> None:
    assert refusal(sign_raw(HEADER, payload)).startswith(
        ("the claims of the token are not valid", "the token is not valid here")
    )


def test_audience_may_be_a_list() -> None:
    assert verify(issue(aud=["other", AUDIENCE]), KEYS, RULES, NOW)


def test_token_expires_30_seconds_after_exp() -> None:
    token = issue(exp=NOW_SECONDS)
    ends = (NOW_SECONDS + 30) * SECOND
    assert verify(token, KEYS, RULES, ends - 1).expires_at == ends
    with pytest.raises(Unauthorized) as caught:
        verify(token, KEYS, RULES, ends)
    assert caught.value.code == "TOKEN_EXPIRED"


def test_leeway_of_zero_is_exact() -> None:
    exact = JwtRules(ISSUER, AUDIENCE, leeway=0)
    token = issue(exp=NOW_SECONDS + 0.5, nbf=NOW_SECONDS)
    assert verify(token, KEYS, exact, NOW).expires_at == NOW + SECOND // 2
    with pytest.raises(Unauthorized, match="expired"):
        verify(token, KEYS, exact, NOW + SECOND // 2)
    assert refusal(token, rules=exact, now=NOW - 1) == "the token is not valid yet"


def test_token_is_valid_from_30_seconds_before_nbf() -> None:
    token = issue(nbf=NOW_SECONDS)
    begins = (NOW_SECONDS - 30) * SECOND
    assert verify(token, KEYS, RULES, begins)
    assert refusal(token, now=begins - 1) == "the token is not valid yet"


@pytest.mark.parametrize("exp", [1e300, 2**63, 10**40, 253_402_300_800])
def test_expiry_after_the_year_9999_becomes_the_end_of_that_year(exp: float) -> None:
    assert verify(sign_raw(HEADER, claims(exp=exp)), KEYS, RULES, NOW).expires_at == MAX_TIME


@pytest.mark.parametrize("exp", ["1e999", "-1e999", "NaN", "Infinity", "1" * 5_000])
def test_expiry_that_is_no_number_is_refused(exp: str) -> None:
    payload = json.dumps(claims(exp=7)).replace('"exp": 7', f'"exp": {exp}')
    with pytest.raises(Unauthorized):
        verify(sign_raw(HEADER, payload), KEYS, RULES, NOW)


@pytest.mark.parametrize("exp", [-1, -(2**63), -1e300, 0])
def test_expiry_before_1970_has_passed(exp: float) -> None:
    with pytest.raises(Unauthorized) as caught:
        verify(sign_raw(HEADER, claims(exp=exp)), KEYS, RULES, NOW)
    assert caught.value.code == "TOKEN_EXPIRED"
