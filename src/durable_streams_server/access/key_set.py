"""The public keys of an identity provider, from a JSON Web Key Set (RFC 7517).

Each key verifies only the algorithms of its own kind, so a token cannot choose how its signature is checked. Symmetric keys, private
keys, keys for encryption and short keys are left out.

This module loads the packages `jwt` and `cryptography`, so import it when it is first needed.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from jwt import PyJWTError
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from .documents import place_of

#: Maximum keys of a set. Providers publish two or three.
MAX_KEYS: Final = 64
#: Bits of an RSA key. Shorter keys are weak, and longer ones take too long to verify with.
_RSA_BITS: Final = range(2048, 8192 + 1)

_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
#: The algorithms by the type and the curve of a key.
_ALGORITHMS: Final[dict[tuple[str, str | None], tuple[str, ...]]] = {
    ("RSA", None): _RSA,
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA",),
}
_LOADERS: Final[dict[str, Any]] = {"RSA": RSAAlgorithm, "EC": ECAlgorithm, "OKP": OKPAlgorithm}


class _Document(msgspec.Struct):
    """A key set. The keys are decoded one by one, so that an unknown kind of key does not spoil the others."""

    keys: list[msgspec.Raw]


class _KeyDocument(msgspec.Struct):
    """The members of a key that matter here."""

    kty: str
    kid: str | None = None
    alg: str | None = None
    use: str | None = None
    key_ops: list[str] | None = None
    crv: str | None = None
    x: str | None = None
    y: str | None = None
    n: str | None = None
    e: str | None = None
    d: str | None = None  # only private keys have it


class PublicKey(msgspec.Struct, frozen=True):
    """A key that verifies signatures.

    Attributes:
        kid: the id of the key, or None.
        algorithms: the algorithms for which the key may be used.
        key: the key as an object of the package `cryptography`.
    """

    kid: str | None
    algorithms: tuple[str, ...]
    key: Any


class KeySet:
    """The keys of one document.

    Args:
        keys: the usable keys.
        source: the document. Two sets are equal if their documents are.
    """

    def __init__(self, keys: Sequence[PublicKey], source: bytes) -> None:
        self._source = source
        self._all = tuple(keys)
        self._by_kid: defaultdict[str, list[PublicKey]] = defaultdict(list)
        for key in keys:
            if key.kid is not None:
                self._by_kid[key.kid].append(key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KeySet) and self._source == other._source

    __hash__ = None  # type: ignore[assignment]  # sets of keys are compared and never looked up

    def find(self, kid: str | None, algorithm: str) -> PublicKey | None:
        """Returns the key for a token, or None.

        Without a key id in the token, the set must have exactly one key for the algorithm. With several keys of the same id, the first
        one for the algorithm is meant (RFC 7517, 4.5).
        """
        keys = self._all if kid is None else self._by_kid.get(kid, ())
        fitting = [key for key in keys if algorithm in key.algorithms]
        if not fitting or (kid is None and len(fitting) > 1):
            return None
        return fitting[0]


def parse_key_set(data: bytes) -> KeySet:
    """Returns the keys of a document.

    Raises:
        ValueError: the document is no key set, or has no usable key. The message quotes nothing.
    """
    try:
        document = msgspec.json.decode(data, type=_Document)
    except msgspec.MsgspecError as error:
        raise ValueError(place_of(error)) from None
    if len(document.keys) > MAX_KEYS:
        raise ValueError(f"a key set has at most {MAX_KEYS} keys")
    keys = [key for raw in document.keys if (key := _parse_key(raw)) is not None]
    if not keys:
        raise ValueError("it has no public key for EdDSA, ES256, ES384, ES512, RS… or PS…")
    return KeySet(keys, data)


def _parse_key(raw: msgspec.Raw) -> PublicKey | None:
    """Returns the key of a document, or None if the server cannot or may not verify with it."""
    try:
        document = msgspec.json.decode(raw, type=_KeyDocument)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    algorithms = _ALGORITHMS.get(
        (document.kty, document.crv if document.kty != "RSA" else None), ()
    )
    if document.alg is not None:
        algorithms = (document.alg,) if document.alg in algorithms else ()
    is_for_signatures = document.use in (None, "sig") and (
        document.key_ops is None or "verify" in document.key_ops
    )
    if not algorithms or not is_for_signatures or document.d is not None:
        return None
    members = {
        name: value
        for name in ("kty", "crv", "x", "y", "n", "e")
        if (value := getattr(document, name)) is not None
    }
    try:
        key = _LOADERS[document.kty].from_jwk(members)
    except (PyJWTError, UnsupportedAlgorithm, ValueError, TypeError, KeyError):
        return None
    if document.kty == "RSA" and key.key_size not in _RSA_BITS:
        return None
    return PublicKey(document.kid, algorithms, key)
