"""Issues and verifies callback and claim tokens (PROTOCOL 7.1, 7.2, 12.9).

Tokens are JSON Web Tokens, signed with HS256 and a secret that never leaves the server. A token names a subscription, the incarnation
of that subscription, a generation and a wake. The active key signs new tokens. Tokens of retired keys stay valid as long as the
server keeps those keys. The caller of `read` must check that the generation is still the present one.

A token expires by steady time, as leases do, so setting the wall clock does not change how long a token is valid. The claim `until`
holds that time. The claim `exp` holds the corresponding date for workers.

A token is a secret, so it must not appear in any log, message or exception.
"""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

import jwt
import msgspec
from jwt.algorithms import HMACAlgorithm

from ..errors import Unauthorized
from ..protocol.signing import Key
from ..protocol.units import SECOND

#: Seconds for which a token is valid: six times the longest lease, so that a heartbeat can renew the token in time.
TOKEN_LIFE: Final = 3600
#: Maximum bytes of a token. The token of the longest subscription id is several times shorter.
MAX_JWT_BYTES: Final = 4096

_ALGORITHM: Final = "HS256"
# The last of 43 characters holds four bits of the hash and two zero bits. Other spellings of the same hash are refused.
_SHAPE: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]")


class Holder(NamedTuple):
    """The client that a claim token was issued to. A callback token has none, because the server sends it to a webhook.

    Attributes:
        client: the subject of the client's own token, if that token can be revoked, or "".
        ends_at: the time at which the client's own token expires, in microseconds of steady time, or None.
    """

    client: str = ""
    ends_at: int | None = None


#: The holder of a token that depends on no token of a client.
ANYBODY: Final = Holder()


class Claims(msgspec.Struct, frozen=True):
    """The claims of a token.

    Attributes:
        subscription_id: the id of the subscription.
        incarnation: the incarnation of the subscription.
        generation: the generation of the wake.
        wake_id: the id of the wake, or "" in a token of an earlier version of the server.
        expires_at: the time at which the token expires, in microseconds of steady time.
        holder: the client that the token was issued to.
    """

    subscription_id: str
    incarnation: int
    generation: int
    wake_id: str
    expires_at: int
    holder: Holder = ANYBODY


class _Payload(msgspec.Struct, omit_defaults=True):
    """The JSON document in a token. `until` and `end` are in seconds of steady time, and `exp` in seconds of Unix time."""

    sub: str
    inc: int
    gen: int
    exp: int
    until: int | None = None  # tokens of earlier versions of the server have only `exp`
    wake: str = ""
    client: str = ""
    end: int | None = None


class _Secrets(HMACAlgorithm):
    """HS256 without the check whether the secret is a public key. PyJWT makes that check for each token, and it takes 7 µs."""

    def prepare_key(self, key: str | bytes) -> bytes:
        """Returns the secret unchanged."""
        assert isinstance(key, bytes)
        return key


def _signatures() -> jwt.PyJWS:
    """Returns a PyJWT object that signs and verifies with `_Secrets`."""
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
    holder: Holder = ANYBODY,
) -> str:
    """Returns a token that is valid for `TOKEN_LIFE` seconds, or less if the holder's own token expires earlier.

    Args:
        key: the active key.
        subscription_id: the id of the subscription.
        incarnation: the incarnation of the subscription.
        generation: the generation of the wake.
        wake_id: the id of the wake.
        now: microseconds of steady time.
        offset: the wall clock minus steady time, in microseconds. It determines `exp`.
        holder: the client that the token is for.
    """
    until = now // SECOND + TOKEN_LIFE
    end = None if holder.ends_at is None else holder.ends_at // SECOND
    if end is not None:
        until = min(until, end)
    payload = _Payload(
        subscription_id,
        incarnation,
        generation,
        until + offset // SECOND,
        until,
        wake_id,
        holder.client,
        end,
    )
    return _JWS.encode(msgspec.json.encode(payload), key.secret, _ALGORITHM, {"kid": key.kid})


def read(keys: Sequence[Key], token: str, now: int) -> Claims:
    """Verifies the signature and the expiry of a token, and returns its claims.

    Args:
        keys: all keys of the server, the active one first.
        token: the text after `Bearer ` in the Authorization header.
        now: microseconds of steady time.

    Raises:
        Unauthorized: INVALID_TOKEN if the token is malformed or badly signed; TOKEN_EXPIRED if it has expired.
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
    holder = Holder(payload.client, None if payload.end is None else payload.end * SECOND)
    return Claims(payload.sub, payload.inc, payload.gen, payload.wake, until * SECOND, holder)


def needs_renewal(claims: Claims, now: int) -> bool:
    """Returns whether less than half of a token's lifetime is left, so that the response should contain a new token.

    A worker sends a heartbeat at least once per lease, and the longest lease is 10 minutes (PROTOCOL 6.2). So the worker gets a new token
    long before the old one expires. A token that expires together with the holder's own token is not renewed.
    """
    return (
        claims.expires_at != claims.holder.ends_at
        and claims.expires_at - now < TOKEN_LIFE * SECOND // 2
    )


def _decode(token: str, keys: Sequence[Key]) -> _Payload:
    """Returns the payload of a token that one of the keys has signed.

    The keys are tried in order, because the active key has signed nearly every token. Reading the key id from the header first would
    parse each token twice.
    """
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
