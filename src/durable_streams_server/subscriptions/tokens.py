"""Callback and claim tokens (PROTOCOL 7.1, 7.2, 12.9): JWTs, signed with HS256 and a secret that never leaves the server.

A token names one subscription in one incarnation, one generation of it, and the wake of that. It is signed with the active key, and taken as
long as that key is kept, retired or not. Whether the generation is still the present one is for the caller to decide.

A token's life is counted in steady time, like the lease that it belongs to, so setting the wall clock ends no token and keeps
none alive. That time is in `until`; `exp` is the date that workers may go by.

A token is a secret: it goes into no log, no message and no exception.
"""

import re
from collections.abc import Sequence
from typing import Final

import jwt
import msgspec
from jwt.algorithms import HMACAlgorithm

from ..errors import Unauthorized
from ..protocol.signing import Key
from ..protocol.units import SECOND

TOKEN_LIFE: Final = (
    3600  # seconds; six of the longest leases, so that every heartbeat can renew in time
)
MAX_JWT_BYTES: Final = 4096  # several times what the longest subscription id needs

_ALGORITHM: Final = "HS256"
# The last of 43 characters holds four bits of the hash, and two that must be zero: a token has one spelling.
_SHAPE: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]")


class Claims(msgspec.Struct, frozen=True):
    """What a token says.

    Attributes:
        subscription_id: whose it is.
        incarnation: which life of that id.
        generation: of which wake.
        wake_id: of that wake; "" in a token of an earlier version.
        expires_at: microseconds of steady time from which it is no longer taken.
    """

    subscription_id: str
    incarnation: int
    generation: int
    wake_id: str
    expires_at: int


class _Payload(msgspec.Struct):
    sub: str
    inc: int
    gen: int
    exp: int
    until: int | None = None  # a token of an older version has no other time than `exp`
    wake: str = ""


class _Secrets(HMACAlgorithm):
    """HS256 with secrets of our own. The library would look for each token whether its secret is a public key: 7 us each time."""

    def prepare_key(self, key: str | bytes) -> bytes:
        """Returns a secret as it is."""
        assert isinstance(key, bytes)
        return key


def _signatures() -> jwt.PyJWS:
    signatures = jwt.PyJWS()
    signatures.unregister_algorithm(_ALGORITHM)
    signatures.register_algorithm(_ALGORITHM, _Secrets(_Secrets.SHA256))
    return signatures


_JWS: Final = _signatures()


def issue(
    key: Key,
    subscription_id: str,
    incarnation: int,
    generation: int,
    wake_id: str,
    now: int,
    offset: int = 0,
) -> str:
    """Returns a token that is taken for `TOKEN_LIFE` seconds.

    Args:
        key: the active one.
        now: microseconds of steady time.
        offset: microseconds by which the wall clock is ahead, for `exp`.
    """
    payload = _Payload(
        subscription_id,
        incarnation,
        generation,
        (now + offset) // SECOND + TOKEN_LIFE,
        now // SECOND + TOKEN_LIFE,
        wake_id,
    )
    return _JWS.encode(msgspec.json.encode(payload), key.secret, _ALGORITHM, {"kid": key.kid})


def read(keys: Sequence[Key], token: str, now: int) -> Claims:
    """Returns what a token says, once its signature and its life are proven.

    Args:
        keys: every key that is kept.
        token: what followed `Bearer ` in the request.
        now: microseconds of steady time.

    Raises:
        Unauthorized: INVALID_TOKEN, or TOKEN_EXPIRED for one that was good before.
    """
    if len(token) > MAX_JWT_BYTES or _SHAPE.fullmatch(token) is None:
        raise _invalid()
    try:
        payload = _decode(token, keys)
    except (jwt.PyJWTError, msgspec.DecodeError, ValueError, RecursionError):
        raise _invalid() from None
    until = payload.exp if payload.until is None else payload.until
    if now >= until * SECOND:
        raise Unauthorized("the token has expired", "TOKEN_EXPIRED")
    return Claims(payload.sub, payload.inc, payload.gen, payload.wake, until * SECOND)


def needs_renewal(claims: Claims, now: int) -> bool:
    """Tells whether less than half of a token's life is left, so that the answer should bring a new one.

    Heartbeats come at least once per lease, and the longest lease is 10 minutes (PROTOCOL 6.2): whoever works on is renewed
    long before the token ends.
    """
    return claims.expires_at - now < TOKEN_LIFE * SECOND // 2


def _decode(token: str, keys: Sequence[Key]) -> _Payload:
    """Returns what a token holds. The active key is tried first, which nearly every token is signed with: to look for the key's name
    in the header first would parse the token twice."""
    for key in keys:
        try:
            found = _JWS.decode_complete(token, key.secret, [_ALGORITHM])
        except jwt.InvalidSignatureError:
            continue
        if found["header"].get("kid") != key.kid:
            raise _invalid()
        return msgspec.json.decode(found["payload"], type=_Payload)
    raise _invalid()


def _invalid() -> Unauthorized:
    return Unauthorized("the token is not valid here")
