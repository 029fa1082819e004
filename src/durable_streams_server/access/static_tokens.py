"""Static tokens: their text, what the server keeps of one, and how it recognises one.

    dst_<id>_<secret>

The id is public: logs and lists name a token by it. The secret has 256 random bits, so the server keeps only its SHA-256, and needs no
slow hash. The hash also is the root of the key for signed URLs (`signed_urls.py`), so whoever reads it can sign URLs, but cannot
present the token.
"""

import hashlib
import hmac
import re
import secrets
from functools import cached_property
from typing import Any, Final, NamedTuple

import msgspec

from ..errors import Unauthorized
from ..protocol.permissions import NO_LIMITS, Claims, Grant, TokenLimits
from ..protocol.signing import encode_base64url

_ID_BYTES: Final = 6
_SECRET_BYTES: Final = 32
_SUBJECT: Final = "token:"  # precedes the id in the subject of the claims
# The last of 43 characters holds four bits of the secret and two zero bits. Other spellings of the same secret are refused.
_TOKEN: Final = re.compile(r"dst_([0-9a-f]{12})_([A-Za-z0-9_-]{42}[AEIMQUYcgkosw048])")
_ID: Final = re.compile(r"[0-9a-f]{12}")
#: Compared with the secret of an unknown id, so that the answer takes as long as for a known one. No secret has this hash.
_NO_HASH: Final = bytes(32)


class Presented(NamedTuple):
    """The parts of the text of a static token.

    Attributes:
        id: the public id.
        hash: the SHA-256 of the secret.
    """

    id: str
    hash: bytes


class StaticToken(msgspec.Struct, frozen=True, dict=True):
    """What the server keeps of a static token.

    Attributes:
        id: the public id, 12 hexadecimal digits.
        hash: the SHA-256 of the secret.
        grants: what the token allows.
        name: what the token is for, in the words of the operator.
        created_at: microseconds since 1970.
        expires_at: microseconds since 1970 at which the token ends, or None.
        limits: the limits of the token.
    """

    id: str
    hash: bytes
    grants: tuple[Grant, ...]
    name: str = ""
    created_at: int = 0
    expires_at: int | None = None
    limits: TokenLimits = NO_LIMITS

    def __repr__(self) -> str:
        """Returns the id without the hash."""
        return f"StaticToken({self.id!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Returns the id without the hash, for the library `rich`, which calls this method to print an object."""
        return [("id", self.id)]

    @cached_property
    def claims(self) -> Claims:
        """The claims of a client that presents the token."""
        return Claims(f"{_SUBJECT}{self.id}", self.grants, self.expires_at, self.limits)


class StaticTokens:
    """The tokens of a file, by id.

    Args:
        tokens: the tokens. No two have the same id.
    """

    def __init__(self, tokens: tuple[StaticToken, ...] = ()) -> None:
        self._tokens = {token.id: token for token in tokens}

    def verify(self, text: str, now: int) -> Claims:
        """Returns the claims of a token.

        Args:
            text: the text that the client has sent.
            now: microseconds since 1970.

        Raises:
            Unauthorized: INVALID_TOKEN if no such token exists, TOKEN_EXPIRED if it has expired.
        """
        presented = parse_token(text)
        if presented is None:
            raise invalid_token()
        found = self._tokens.get(presented.id)
        stored = _NO_HASH if found is None else found.hash
        if not hmac.compare_digest(stored, presented.hash) or found is None:
            raise invalid_token()
        return unexpired(found.claims, now)

    def knows(self, subject: str) -> bool:
        """Returns whether there is a token with this subject, expired or not."""
        return subject.startswith(_SUBJECT) and subject[len(_SUBJECT) :] in self._tokens

    def find(self, id_: str, now: int) -> StaticToken:
        """Returns the token with an id, to verify a URL that it has signed.

        Raises:
            Unauthorized: INVALID_TOKEN if no such token exists, TOKEN_EXPIRED if it has expired.
        """
        found = self._tokens.get(id_)
        if found is None:
            raise invalid_token()
        unexpired(found.claims, now)
        return found


def create_text() -> str:
    """Returns the text of a new token with a random id and a random secret."""
    id_ = secrets.token_hex(_ID_BYTES)
    return f"dst_{id_}_{encode_base64url(secrets.token_bytes(_SECRET_BYTES))}"


def parse_token(text: str) -> Presented | None:
    """Returns the parts of the text of a static token, or None if the text is no such token."""
    match = _TOKEN.fullmatch(text)
    if match is None:
        return None
    return Presented(match[1], hashlib.sha256(match[2].encode("ascii")).digest())


def is_token_id(text: str) -> bool:
    """Returns whether a text has the form of a token's id."""
    return _ID.fullmatch(text) is not None


def unexpired(claims: Claims, now: int) -> Claims:
    """Returns claims unchanged, after checking that they have not expired.

    Raises:
        Unauthorized: TOKEN_EXPIRED.
    """
    if claims.expires_at is not None and now >= claims.expires_at:
        raise Unauthorized("the token has expired", "TOKEN_EXPIRED")
    return claims


def invalid_token(why: str = "the token is not valid here") -> Unauthorized:
    """Returns the error for a token that the server does not accept.

    Args:
        why: the reason, which only the holder of a genuine token may learn. Anybody else gets the same words whatever is wrong.
    """
    return Unauthorized(why)
