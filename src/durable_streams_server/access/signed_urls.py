"""Signed URLs: whoever has one may read one stream for a while, without a token.

    https://host/v1/stream/chat?token_id=…&expires=…&signature=…

A static token signs the URL. The holder of the token, such as the backend of an application, needs no request to do so. The signature
covers the decoded path and the expiry, so other query parameters, such as `offset` and `live`, are free. It does not cover the host.

    key       = HMAC-SHA256(SHA-256(secret), "durable-streams signed URL v1")
    signature = HMAC-SHA256(key, path + "\\n" + expires)

A signed URL allows to read what its token allows to read, and ends when the token expires or is revoked.
"""

import hashlib
import hmac
import re
from typing import Final, NamedTuple
from urllib.parse import parse_qs, urlsplit

from ..errors import BadRequest, Unauthorized
from ..protocol.arguments import require
from ..protocol.paths import decode_path, normalize_root
from ..protocol.permissions import Claims, Grant
from ..protocol.signing import encode_base64url
from ..protocol.units import SECOND
from .static_tokens import StaticTokens, invalid_token, is_token_id, parse_token

#: Maximum seconds for which a URL is signed. URLs get into logs and histories.
MAX_SIGNED_SECONDS: Final = 24 * 3600

_SKEW_SECONDS: Final = (
    60  # by which the clock of the signer may be ahead, for a URL of the longest life
)
_CONTEXT: Final = b"durable-streams signed URL v1"
_TOKEN_ID: Final = "token_id"
_EXPIRES: Final = "expires"
_SIGNATURE: Final = "signature"
_NAMES: Final = (_TOKEN_ID, _EXPIRES, _SIGNATURE)
_SECONDS: Final = re.compile(r"[1-9][0-9]{0,11}")
_DIGEST: Final = re.compile(r"[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]")
_MAX_PARAMETERS: Final = 64


class _Parameters(NamedTuple):
    """The query parameters of a signed URL, as they were sent."""

    token_id: str
    expires: str
    signature: str


def sign_url(url: str, token: str, expires_at: int, mount: str = "") -> str:
    """Returns a URL with a signature that is valid until `expires_at`, in seconds since 1970.

    Args:
        url: the URL of a stream, with other query parameters or without.
        token: the text of the static token that signs.
        expires_at: seconds since 1970, at most a day from now; the server refuses a later time.
        mount: the part of the URL's path that the server does not see, because a proxy removes it or the server is mounted there.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: the URL, the mount or the token is malformed. The message quotes none of them.
    """
    require(str, url=url, token=token, mount=mount)
    require(int, expires_at=expires_at)
    presented = parse_token(token)
    if presented is None:
        raise ValueError("the token is not a static token, dst_…")
    path = _path_of(url, mount)
    signature = _sign(presented.hash, path, str(expires_at))
    separator = "&" if "?" in url else "?"
    return (
        f"{url}{separator}{_TOKEN_ID}={presented.id}&{_EXPIRES}={expires_at}"
        f"&{_SIGNATURE}={signature}"
    )


def verify_url(tokens: StaticTokens, path: str, query: bytes, now: int) -> Claims | None:
    """Returns the claims of a request with a signed URL, or None if the query has no signature.

    Args:
        tokens: the static tokens that the server knows.
        path: the decoded path of the request below the mount.
        query: the query of the request, percent-encoded.
        now: microseconds since 1970.

    Raises:
        Unauthorized: INVALID_TOKEN if the signature is not valid for this path, TOKEN_EXPIRED if its time is over.
    """
    parameters = _parameters(query)
    if parameters is None:
        return None
    if (
        not is_token_id(parameters.token_id)
        or not _SECONDS.fullmatch(parameters.expires)
        or not _DIGEST.fullmatch(parameters.signature)
    ):
        raise invalid_token()
    token = tokens.find(parameters.token_id, now)
    expected = _sign(token.hash, path, parameters.expires)
    if not hmac.compare_digest(expected.encode("ascii"), parameters.signature.encode("ascii")):
        raise invalid_token()
    expires_at = int(parameters.expires) * SECOND
    if now >= expires_at:
        raise Unauthorized("the signature of the URL has expired", "TOKEN_EXPIRED")
    if expires_at - now > (MAX_SIGNED_SECONDS + _SKEW_SECONDS) * SECOND:
        raise invalid_token()
    if token.expires_at is not None:
        expires_at = min(expires_at, token.expires_at)
    grants = tuple(
        Grant(frozenset({"read"}), grant.paths) for grant in token.grants if "read" in grant.verbs
    )
    return Claims(token.claims.subject, grants, expires_at, token.limits, only=path)


def _sign(hash_: bytes, path: str, expires: str) -> str:
    """Returns the signature of a path and a time, with the key that follows from the hash of a token's secret."""
    key = hmac.digest(hash_, _CONTEXT, hashlib.sha256)
    return encode_base64url(hmac.digest(key, f"{path}\n{expires}".encode(), hashlib.sha256))


def _parameters(query: bytes) -> _Parameters | None:
    """Returns the parameters of a signed URL, or None if the query has no signature. A malformed query has none.

    Raises:
        Unauthorized: INVALID_TOKEN if a parameter is missing or repeated.
    """
    if b"signature=" not in query:
        return None
    try:
        found = parse_qs(
            query.decode("latin-1"),
            keep_blank_values=True,
            max_num_fields=_MAX_PARAMETERS,
            errors="strict",
        )
    except ValueError:
        return None
    if _SIGNATURE not in found:
        return None
    values = [found.get(name, []) for name in _NAMES]
    if any(len(each) != 1 for each in values):
        raise invalid_token()
    return _Parameters(*(each[0] for each in values))


def _path_of(url: str, mount: str) -> str:
    """Returns the decoded path on which the server decides, for a URL.

    Raises:
        ValueError: the URL or the mount is malformed.
    """
    try:
        parts = urlsplit(url)
        is_whole = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        is_whole = False
    if not is_whole:
        raise ValueError("the URL must begin with https:// or http:// and a host")
    if "#" in url:
        raise ValueError("the URL must have no fragment")
    given = parse_qs(parts.query, keep_blank_values=True)
    if not given.keys().isdisjoint(_NAMES):  # the server refuses a parameter that occurs twice
        raise ValueError("the URL is already signed")
    try:
        prefix = normalize_root(mount)
        path = decode_path(parts.path.encode("utf-8", "surrogatepass"))
    except BadRequest as error:
        raise ValueError(error.message) from None
    if not path.startswith(f"{prefix}/"):
        raise ValueError("the path of the URL is not below the mount")
    return path[len(prefix) :]
