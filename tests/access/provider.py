"""An identity provider: keys of all kinds, key sets, and JSON Web Tokens, also malformed ones."""

import base64
import json
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from durable_streams_server.access.jwt_rules import JwtRules
from durable_streams_server.protocol.units import SECOND

ISSUER = "https://login.example"
AUDIENCE = "streams"
RULES = JwtRules(ISSUER, AUDIENCE)
#: Seconds since 1970, and the same in microseconds, at which most tests take place.
NOW_SECONDS = 1_800_000_000
NOW = NOW_SECONDS * SECOND
READ_CHAT = [{"verbs": ["read"], "paths": ["/v1/stream/chat/*"]}]


@cache
def private_key(algorithm: str) -> Any:
    """Returns a private key for an algorithm, always the same one."""
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    if algorithm.startswith("ES"):
        curves = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
        return ec.generate_private_key(curves[algorithm])
    return rsa.generate_private_key(65537, 2048)


def public_jwk(key: Any, **members: Any) -> dict[str, Any]:
    """Returns the public part of a private key as a JSON Web Key, with further members."""
    loader: Any = OKPAlgorithm
    if isinstance(key, ec.EllipticCurvePrivateKey):
        loader = ECAlgorithm
    elif isinstance(key, rsa.RSAPrivateKey):
        loader = RSAAlgorithm
    jwk: dict[str, Any] = loader.to_jwk(key.public_key(), as_dict=True)
    jwk.pop("key_ops", None)
    return {**jwk, **members}


def key_set(*keys: dict[str, Any]) -> bytes:
    """Returns a key set as a document."""
    return json.dumps({"keys": keys}).encode()


def usual_key_set(kid: str = "k1", algorithm: str = "EdDSA") -> bytes:
    """Returns a key set with one key."""
    return key_set(public_jwk(private_key(algorithm), kid=kid))


def claims(**changes: Any) -> dict[str, Any]:
    """Returns the claims of a valid token, with changes. A claim that is changed to None is left out."""
    usual = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "ann",
        "exp": NOW_SECONDS + 600,
        "streams": READ_CHAT,
    }
    return {name: value for name, value in {**usual, **changes}.items() if value is not None}


def issue(
    algorithm: str = "EdDSA",
    *,
    kid: str | None = "k1",
    headers: dict[str, Any] | None = None,
    key: Any = None,
    **changes: Any,
) -> str:
    """Returns a signed token."""
    return jwt.encode(
        claims(**changes),
        key or private_key(algorithm),
        algorithm,
        {**({} if kid is None else {"kid": kid}), **(headers or {})},
    )


def encode(value: Any) -> str:
    """Returns a value as JSON in base64url, as the parts of a token are written. Bytes and text are encoded as they are."""
    data = json.dumps(value).encode() if isinstance(value, dict | list) else value
    data = data.encode() if isinstance(data, str) else data
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def sign_raw(header: Any, payload: Any) -> str:
    """Returns a token with any header and any payload and a valid Ed25519 signature."""
    signed = f"{encode(header)}.{encode(payload)}"
    return f"{signed}.{encode(private_key('EdDSA').sign(signed.encode()))}"
