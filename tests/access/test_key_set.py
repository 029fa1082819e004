"""Tests of key sets: which keys are used, for which algorithms, and how a token finds its key."""

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from durable_streams_server.access.jwt_rules import ALGORITHMS
from durable_streams_server.access.key_set import MAX_KEYS, parse_key_set
from tests.access.provider import key_set, private_key, public_jwk

EDDSA = public_jwk(private_key("EdDSA"), kid="ed")
ES256 = public_jwk(private_key("ES256"), kid="ec")
RS256 = public_jwk(private_key("RS256"), kid="rsa")


@pytest.mark.parametrize(
    ("name", "jwk", "allowed"),
    [
        ("ed", EDDSA, {"EdDSA"}),
        ("ec", ES256, {"ES256"}),
        ("ec", public_jwk(private_key("ES384"), kid="ec"), {"ES384"}),
        ("ec", public_jwk(private_key("ES512"), kid="ec"), {"ES512"}),
        ("rsa", RS256, {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}),
        ("rsa", {**RS256, "alg": "PS256"}, {"PS256"}),
        ("rsa", {**RS256, "use": "sig", "key_ops": ["verify"], "x5t": "?"}, set(ALGORITHMS[4:])),
    ],
)
def test_key_serves_the_algorithms_of_its_kind(
    name: str, jwk: dict[str, Any], allowed: set[str]
) -> None:
    keys = parse_key_set(key_set(jwk))
    found = {algorithm for algorithm in ALGORITHMS if keys.find(name, algorithm) is not None}
    assert found == allowed
    for algorithm in ("none", "HS256", "HS512", ""):
        assert keys.find(name, algorithm) is None


def private_jwk(key: Any, loader: Any) -> dict[str, Any]:
    """Returns a private key as a JSON Web Key."""
    found: dict[str, Any] = loader.to_jwk(key, as_dict=True)
    return found


@pytest.mark.parametrize(
    "jwk",
    [
        {"kty": "oct", "k": "c2VjcmV0", "kid": "x"},
        {"kty": "oct", "k": "c2VjcmV0", "alg": "RS256"},
        {**RS256, "alg": "HS256"},
        {**RS256, "alg": "ES256"},
        {**ES256, "alg": "EdDSA"},
        {**EDDSA, "use": "enc"},
        {**EDDSA, "key_ops": ["sign"]},
        {**EDDSA, "key_ops": []},
        {**EDDSA, "crv": "X25519"},
        {**EDDSA, "x": "AAAA"},
        {**EDDSA, "x": "!"},
        {**ES256, "crv": "P-384"},
        {**ES256, "crv": "secp256k1"},
        {**ES256, "x": ES256["y"]},
        {k: v for k, v in ES256.items() if k != "x"},
        {k: v for k, v in RS256.items() if k != "n"},
        {**RS256, "kid": 1},
        {**RS256, "kty": "EC"},
        {"kty": "unknown"},
        {},
        [],
        "key",
        None,
        public_jwk(rsa.generate_private_key(65537, 1024)),
        private_jwk(private_key("EdDSA"), OKPAlgorithm),
        private_jwk(private_key("ES256"), ECAlgorithm),
        private_jwk(private_key("RS256"), RSAAlgorithm),
        private_jwk(ed448.Ed448PrivateKey.generate().public_key(), OKPAlgorithm),
        private_jwk(ec.generate_private_key(ec.SECP256K1()).public_key(), ECAlgorithm),
    ],
)
def test_unusable_key_is_left_out(jwk: Any) -> None:
    with pytest.raises(ValueError, match="it has no public key for"):
        parse_key_set(json.dumps({"keys": [jwk]}).encode())
    keys = parse_key_set(json.dumps({"keys": [jwk, {**EDDSA, "kid": "good"}]}).encode())
    assert keys.find("good", "EdDSA") is not None
    assert keys.find(None, "EdDSA") is not None


def test_rsa_key_of_more_than_8192_bits_is_left_out() -> None:
    from jwt.utils import to_base64url_uint

    jwk = {"kty": "RSA", "e": "AQAB", "n": to_base64url_uint((1 << 8200) + 1).decode()}
    with pytest.raises(ValueError, match="it has no public key for"):
        parse_key_set(key_set(jwk))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "it is not JSON"),
        (b"<html>hush</html>", "it is not JSON"),
        (b"[]", "expected object, got array"),
        (b"{}", "object missing required field keys"),
        (b'{"keys": "hush"}', r"at \$.keys: expected array, got str"),
        (b'{"keys": []}', "it has no public key for"),
        (b'{"keys": ["\xff"]}', "it has no public key for|it is not JSON"),
        (json.dumps({"keys": [EDDSA] * (MAX_KEYS + 1)}).encode(), f"at most {MAX_KEYS} keys"),
    ],
)
def test_document_without_usable_keys_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        parse_key_set(data)
    assert "hush" not in str(caught.value)


def test_set_of_the_most_keys_is_accepted() -> None:
    assert parse_key_set(key_set(*[EDDSA] * MAX_KEYS)).find("ed", "EdDSA") is not None


def test_token_with_key_id_gets_exactly_that_key() -> None:
    other = public_jwk(private_key("ES384"), kid="other")
    keys = parse_key_set(key_set(EDDSA, ES256, other))
    found = keys.find("ec", "ES256")
    assert found is not None
    assert found.kid == "ec"
    assert keys.find("ec", "EdDSA") is None
    assert keys.find("unknown", "EdDSA") is None


def test_key_id_of_two_keys_means_the_one_for_the_algorithm() -> None:
    keys = parse_key_set(key_set({**EDDSA, "kid": "same"}, {**ES256, "kid": "same"}))
    for algorithm in ("EdDSA", "ES256"):
        found = keys.find("same", algorithm)
        assert found is not None
        assert found.algorithms == (algorithm,)


def test_token_without_key_id_needs_the_only_key_for_its_algorithm() -> None:
    keys = parse_key_set(key_set(EDDSA, ES256, {**ES256, "kid": "second"}))
    assert keys.find(None, "EdDSA") is not None
    assert keys.find(None, "ES256") is None
    assert keys.find(None, "RS256") is None


def test_key_without_id_serves_only_tokens_without_id() -> None:
    keys = parse_key_set(key_set({k: v for k, v in EDDSA.items() if k != "kid"}))
    assert keys.find(None, "EdDSA") is not None
    assert keys.find("", "EdDSA") is None


def test_sets_are_equal_if_their_documents_are() -> None:
    one = parse_key_set(key_set(EDDSA))
    assert one == parse_key_set(key_set(EDDSA))
    assert one != parse_key_set(key_set(EDDSA, ES256))
    assert one != "a set"
