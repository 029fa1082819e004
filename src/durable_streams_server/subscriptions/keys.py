"""Creates, rotates and publishes the server's signing keys, and signs webhooks (PROTOCOL 6.5).

The functions take and return the keys as a tuple with the active key first. A rotation puts a new key at the front and retires the old
one. A retired key signs nothing more. It stays published for `KEEP_RETIRED` seconds, because receivers and workers may still hold
webhooks and tokens that it has signed.
"""

import hashlib
import secrets
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ..protocol.signing import SEED_BYTES, Key, encode_base64url, format_signature, signed_bytes
from ..protocol.units import SECOND

#: Seconds for which a retired key stays published: the lifetime of a token, and twelve times the replay window of a webhook.
KEEP_RETIRED: Final = 3600

_SECRET_BYTES: Final = 32  # the length of an HS256 hash (RFC 7518, 3.2)


def generate(now: int) -> Key:
    """Returns a new key that was created at `now`, in microseconds of steady time."""
    seed = secrets.token_bytes(SEED_BYTES)
    return Key(f"ds_{_thumbprint(seed)}", seed, secrets.token_bytes(_SECRET_BYTES), now)


def active(keys: Sequence[Key]) -> Key:
    """Returns the key that signs: the first one that is not retired.

    Raises:
        LookupError: all keys are retired, or there are none.
    """
    for key in keys:
        if key.retired_at is None:
            return key
    raise LookupError("there is no active signing key")


def rotate(keys: Sequence[Key], now: int) -> tuple[Key, ...]:
    """Returns the keys after a rotation: a new active key, and the retired keys that are still published.

    The caller must make the result durable before it signs anything with the new key.

    Args:
        keys: the present keys. They may be empty.
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
    """Returns the time until which a retired key is published, in microseconds of steady time, or None for the active key."""
    return None if key.retired_at is None else key.retired_at + KEEP_RETIRED * SECOND


def sign(key: Key, timestamp: int, body: bytes) -> str:
    """Returns the value of the `Webhook-Signature` header for a body.

    Args:
        key: the active key.
        timestamp: seconds of Unix time.
        body: the exact bytes that are sent.
    """
    signature = _private(key.seed).sign(signed_bytes(timestamp, body))
    return format_signature(timestamp, key.kid, signature)


def jwks(keys: Sequence[Key], now: int) -> dict[str, Any]:
    """Returns the public JSON Web Key Set, with the active key and the retired keys that are still published."""
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
    """Returns the JWK thumbprint of the public key (RFC 7638, with the members of RFC 8037, 2)."""
    jwk = f'{{"crv":"Ed25519","kty":"OKP","x":"{_public(seed)}"}}'
    return encode_base64url(hashlib.sha256(jwk.encode("ascii")).digest())


def _public(seed: bytes) -> str:
    return encode_base64url(_private(seed).public_key().public_bytes_raw())


@lru_cache(maxsize=16)  # loading a key takes as long as signing; few keys are in use at once
def _private(seed: bytes) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(seed)
