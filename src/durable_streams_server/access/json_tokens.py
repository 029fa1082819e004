"""Verifies JSON Web Tokens of an identity provider (RFC 7519, RFC 8725), and returns their claims.

    {"iss": "https://login.example", "aud": "streams", "sub": "ann", "exp": 1800000000,
     "streams": [{"verbs": ["read"], "paths": ["/v1/stream/chat/*"]}], "limits": {"live_readers": 5}}

The operator fixes the algorithms, the issuer and the audience. Only asymmetric algorithms exist here, so a public key cannot serve as
an HMAC secret. The time comes from the caller. Errors never contain the token or the message of another package.

This module loads the packages `jwt` and `cryptography`, so import it when it is first needed.
"""

import re
from typing import Final

import jwt
import msgspec

from ..errors import Unauthorized
from ..protocol.limits import MAX_TIME
from ..protocol.permissions import NO_LIMITS, Claims, TokenLimits
from ..protocol.signing import decode_base64url
from ..protocol.units import SECOND
from .documents import GrantDocument, place_of, to_grants
from .jwt_rules import ALGORITHMS, JwtRules
from .key_set import KeySet
from .static_tokens import invalid_token

#: Maximum bytes of a JSON Web Token. One with 64 patterns and the usual claims needs less.
MAX_JSON_TOKEN_BYTES: Final = 8192
#: Maximum characters of the subject, which logs show.
_MAX_SUBJECT: Final = 256

_SHAPE: Final = re.compile(r"([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
#: Knows no other algorithms, so a mistake in the rules cannot allow `none` or HMAC.
_JWS: Final = jwt.PyJWS(algorithms=ALGORITHMS)


class UnknownKey(Exception):
    """No key of the set fits the token. The provider may have published a new one."""


class _Header(msgspec.Struct):
    """The members of a token's header that matter here. A token with critical extensions is refused (RFC 7515, 4.1.11)."""

    alg: str
    kid: str | None = None
    crit: msgspec.Raw | None = None


class _Payload(msgspec.Struct):
    """The claims of a token. The times are seconds since 1970, perhaps with a fraction (RFC 7519, 2)."""

    iss: str
    aud: str | list[str]
    sub: str
    exp: int | float
    streams: list[GrantDocument]
    nbf: int | float | None = None
    limits: TokenLimits = NO_LIMITS


def verify(token: str, keys: KeySet | None, rules: JwtRules, now: int) -> Claims:
    """Returns the claims of a token.

    Args:
        token: the text that the client has sent.
        keys: the keys of the provider, or None if they are not known yet.
        rules: what the operator demands.
        now: microseconds since 1970.

    Raises:
        UnknownKey: no key fits the token.
        Unauthorized: INVALID_TOKEN if the token is not valid, TOKEN_EXPIRED if it has expired.
    """
    header = _read_header(token)
    if header is None or header.alg not in rules.algorithms:
        raise invalid_token()
    key = None if keys is None else keys.find(header.kid, header.alg)
    if key is None:
        raise UnknownKey
    signed = _read_signed(token, key.key, header.alg)
    if signed is None:
        raise invalid_token()
    return _check(_read_payload(signed), rules, now)


def _read_header(token: str) -> _Header | None:
    """Returns the header of a token, or None if the token is malformed."""
    match = _SHAPE.fullmatch(token) if len(token) <= MAX_JSON_TOKEN_BYTES else None
    if match is None:
        return None
    try:
        header = msgspec.json.decode(decode_base64url(match[1]), type=_Header)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return header if header.crit is None else None


def _read_signed(token: str, key: object, algorithm: str) -> bytes | None:
    """Returns the bytes that the token's signature covers besides the header, or None if the signature is not valid."""
    try:
        # The key comes from a `KeySet`, which knows no type of the package `cryptography`.
        found = _JWS.decode_complete(token, key, [algorithm])  # type: ignore[arg-type]  # see above
    except (jwt.PyJWTError, ValueError, RecursionError):
        return None
    signed: bytes = found["payload"]
    return signed


def _read_payload(signed: bytes) -> _Payload:
    """Returns the claims of a token whose signature is valid.

    Raises:
        Unauthorized: INVALID_TOKEN.
    """
    try:
        return msgspec.json.decode(signed, type=_Payload)
    except msgspec.MsgspecError as error:
        what = place_of(error)
    except (ValueError, RecursionError):
        what = "they are not JSON in UTF-8"
    raise invalid_token(f"the claims of the token are not valid: {what}")


def _check(payload: _Payload, rules: JwtRules, now: int) -> Claims:
    """Returns the claims of a token with a valid signature.

    Raises:
        Unauthorized: INVALID_TOKEN or TOKEN_EXPIRED.
    """
    audiences = [payload.aud] if isinstance(payload.aud, str) else payload.aud
    if payload.iss != rules.issuer:
        raise invalid_token("the token is from another issuer")
    if rules.audience not in audiences:
        raise invalid_token("the token is for another audience")
    leeway = rules.leeway * SECOND
    expires_at = _microseconds(payload.exp) + leeway
    if now >= expires_at:
        raise Unauthorized("the token has expired", "TOKEN_EXPIRED")
    if payload.nbf is not None and now < _microseconds(payload.nbf) - leeway:
        raise invalid_token("the token is not valid yet")
    if not 1 <= len(payload.sub) <= _MAX_SUBJECT:
        raise invalid_token(f"the subject of the token must have 1 to {_MAX_SUBJECT} characters")
    try:
        grants = to_grants(payload.streams)
    except ValueError as error:
        what = str(error)
    else:
        subject = f"jwt:{payload.sub}"
        return Claims(subject, grants, min(expires_at, MAX_TIME), payload.limits)
    raise invalid_token(f"the claims of the token are not valid: {what}")


def _microseconds(seconds: int | float) -> int:
    """Returns a time in microseconds, clamped to the years 1970 to 9999."""
    return int(min(max(seconds, 0), MAX_TIME // SECOND) * SECOND)
