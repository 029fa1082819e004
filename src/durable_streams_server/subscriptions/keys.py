"""The server's signing keys: made, used, published and replaced (PROTOCOL 6.5).

Keys are a tuple of `Key`, the active one first. A rotation puts a new one before it and retires it. A retired key signs
nothing more, but is kept and published for `KEEP_RETIRED`, since what it has signed may still be on its way: a webhook for
the replay window, a token for its life.
"""

import hashlib
import secrets
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ..protocol.signing import SEED_BYTES, Key, encode_base64url, format_signature, signed_bytes
from ..protocol.units import SECOND

JWKS_MAX_AGE: Final = 300  # seconds for which the set may be cached, PROTOCOL 6.5
KEEP_RETIRED: Final = (
    3600  # seconds; a token lives as long, and a webhook's replay window is a twelfth
)

_SECRET_BYTES: Final = 32  # the length of HS256's hash, RFC 7518, 3.2


def generate(now: int) -> Key:
    """Makes a new key.

    Args:
        now: microseconds of steady time.
    """
    seed = secrets.token_bytes(SEED_BYTES)
    return Key(f"ds_{_thumbprint(seed)}", seed, secrets.token_bytes(_SECRET_BYTES), now)


def active(keys: Sequence[Key]) -> Key:
    """Returns the key to sign with: the first that is not retired.

    Raises:
        LookupError: when there is none.
    """
    for key in keys:
        if key.retired_at is None:
            return key
    raise LookupError("there is no active signing key")


def rotate(keys: Sequence[Key], now: int) -> tuple[Key, ...]:
    """Returns the keys after a rotation: a new active one first, then the retired ones that are still kept.

    The caller makes the result durable before it signs anything with the new key.

    Args:
        keys: the present ones; none to begin with.
        now: microseconds of steady time.
    """
    retired = (
        key
        if key.retired_at is not None
        else Key(key.kid, key.seed, key.secret, key.created_at, now)
        for key in keys
    )
    return (generate(now), *(key for key in retired if _is_kept(key, now)))


def kept_until(key: Key) -> int | None:
    """Returns the time until which a key is published, in microseconds of steady time; None while it is active."""
    return None if key.retired_at is None else key.retired_at + KEEP_RETIRED * SECOND


def sign(key: Key, timestamp: int, body: bytes) -> str:
    """Returns the `Webhook-Signature` of a body.

    Args:
        key: the active one.
        timestamp: seconds of Unix time.
        body: the exact bytes that are sent.
    """
    signature = _private(key.seed).sign(signed_bytes(timestamp, body))
    return format_signature(timestamp, key.kid, signature)


def jwks(keys: Sequence[Key], now: int) -> dict[str, Any]:
    """Returns the public JSON Web Key Set: every key that something acceptable can be signed with."""
    return {
        "keys": [
            {
                "kty": "OKP",
                "crv": "Ed25519",
                "kid": key.kid,
                "use": "sig",
                "alg": "EdDSA",
                "x": _public(key.seed),
            }
            for key in keys
            if _is_kept(key, now)
        ]
    }


def _is_kept(key: Key, now: int) -> bool:
    until = kept_until(key)
    return until is None or now < until


def _thumbprint(seed: bytes) -> str:
    """The JWK thumbprint (RFC 7638; members for OKP from RFC 8037, 2)."""
    jwk = f'{{"crv":"Ed25519","kty":"OKP","x":"{_public(seed)}"}}'
    return encode_base64url(hashlib.sha256(jwk.encode("ascii")).digest())


def _public(seed: bytes) -> str:
    return encode_base64url(_private(seed).public_key().public_bytes_raw())


@lru_cache(maxsize=16)  # loading costs as much as signing; more keys than this are never in use
def _private(seed: bytes) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(seed)
