"""Verifies webhooks for their receivers: that the server signed the body, and that the signature is recent (PROTOCOL 7.1, 12.10).

    from durable_streams_server.webhooks import JwksClient

    jwks = JwksClient("https://server.example/v1/stream/__ds/jwks.json")
    jwks.verify(request.body, request.headers["Webhook-Signature"])

Pass the exact bytes of the request body, before they are parsed. A signature proves who sent the body, but not that the body arrives for
the first time. The same webhook can be replayed within the replay window, and a retry delivers the same wake again.
"""

import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from http.client import HTTPException
from typing import Any, Final, Literal, TypeAlias
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from .protocol.arguments import DATA, NUMBER, OPTIONAL_NUMBER, require, require_callable
from .protocol.signing import (
    REPLAY_WINDOW,
    Signature,
    decode_base64url,
    parse_signature,
    signed_bytes,
)

__all__ = ["JwksClient", "Reason", "WebhookVerificationError", "verify"]

#: Seconds for which a key set is used if the response has no `max-age` (PROTOCOL 6.5).
DEFAULT_MAX_AGE: Final = 300
#: Maximum seconds for which a key set is used, because a withdrawn key must not be accepted for longer.
LONGEST_MAX_AGE: Final = 86_400
#: Minimum seconds between two fetches, so that webhooks with forged key ids cannot cause more of them.
FETCH_INTERVAL: Final = 10.0
#: Timeout in seconds of each step of a fetch.
FETCH_TIMEOUT: Final = 5.0
#: Maximum bytes of a key set. Hundreds of keys fit.
MAX_JWKS_BYTES: Final = 64 * 1024

_MAX_AGE: Final = re.compile(r"(?:^|[\s,])max-age=\"?([0-9]{1,9})", re.IGNORECASE)

#: Errors that urllib, TLS and JSON raise when a key set cannot be fetched.
_UNAVAILABLE: Final = (OSError, HTTPException, ValueError, RecursionError)

#: The reason why a webhook was not accepted. Answer 503 to `keys_unavailable`, which is not the fault of the sender.
Reason: TypeAlias = Literal[
    "malformed_header", "outside_tolerance", "unknown_key", "bad_signature", "keys_unavailable"
]


class WebhookVerificationError(Exception):
    """The webhook must not be accepted. Answer 401 and do no work.

    Attributes:
        reason: a stable identifier, for programs.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason: Reason = reason


def verify(
    raw_body: bytes,
    signature_header: str,
    keys: Mapping[str, Any],
    *,
    now: float | None = None,
    tolerance: float = REPLAY_WINDOW,
) -> None:
    """Verifies a webhook with a given key set. Returns nothing if the webhook may be accepted.

    Args:
        raw_body: the exact bytes of the request body.
        signature_header: the value of `Webhook-Signature`. If the header is repeated, join the values with a comma; the result is refused.
        keys: the JWK Set of the server, decoded from JSON.
        now: the present time in seconds of Unix time. The default is the clock of the machine.
        tolerance: maximum seconds between the time of the signature and now.

    Raises:
        WebhookVerificationError: the webhook must not be accepted.
    """
    require(Mapping, keys=keys)
    signature = _parse_recent(raw_body, signature_header, now, tolerance)
    _check_signature(signature, raw_body, _public_key(keys, signature.kid))


class JwksClient:
    """Verifies webhooks with the JWK Set of the server, which it fetches when needed and caches for the `max-age` of the response.

    Several threads may use one client. A call that fetches may wait for `FETCH_TIMEOUT` seconds or longer, so a coroutine should call it with
    `asyncio.to_thread`.

    Args:
        url: the `jwks_url` of the subscription. It must be an HTTPS URL, or an HTTP URL of this machine.
        clock: returns seconds that never decrease.

    Raises:
        ValueError: the URL is neither of these.
    """

    def __init__(self, url: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        require(str, url=url)
        require_callable(clock=clock)
        parts = urlsplit(url)
        local = parts.scheme == "http" and parts.hostname in ("localhost", "127.0.0.1", "::1")
        if not (parts.scheme == "https" or local) or not parts.hostname:
            raise ValueError("the URL of a key set must begin with https://")
        self._url = url
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: Mapping[str, Any] | None = None
        self._stale_at = self._fetch_at = clock()

    def verify(
        self,
        raw_body: bytes,
        signature_header: str,
        *,
        now: float | None = None,
        tolerance: float = REPLAY_WINDOW,
    ) -> None:
        """Verifies a webhook with the keys of the server. Returns nothing if the webhook may be accepted.

        An unknown key id causes a fetch, unless the last fetch was less than `FETCH_INTERVAL` seconds ago.

        Args:
            raw_body: the exact bytes of the request body.
            signature_header: the value of `Webhook-Signature`. If the header is repeated, join the values with a comma; the result is refused.
            now: the present time in seconds of Unix time. The default is the clock of the machine.
            tolerance: maximum seconds between the time of the signature and now.

        Raises:
            WebhookVerificationError: the webhook must not be accepted.
        """
        signature = _parse_recent(raw_body, signature_header, now, tolerance)
        try:
            key = _public_key(self._current_keys(), signature.kid)
        except WebhookVerificationError as error:
            if error.reason != "unknown_key":
                raise
            key = _public_key(self._current_keys(refresh=True), signature.kid)
        _check_signature(signature, raw_body, key)

    def _current_keys(self, refresh: bool = False) -> Mapping[str, Any]:
        """Returns the cached key set, which is fetched first if it is missing or expired, or if `refresh` is true."""
        with self._lock:
            now = self._clock()
            stale = self._keys is None or now >= self._stale_at
            if (stale or refresh) and now >= self._fetch_at:
                self._fetch_at = now + FETCH_INTERVAL
                try:
                    self._keys, max_age = _fetch(self._url)
                    self._stale_at = now + max(FETCH_INTERVAL, min(max_age, LONGEST_MAX_AGE))
                    stale = False
                except _UNAVAILABLE:
                    pass
            if self._keys is None or stale:
                raise WebhookVerificationError("keys_unavailable", "there is no current key set")
            return self._keys


def _parse_recent(body: bytes, header: str, now: float | None, tolerance: float) -> Signature:
    """Parses a signature header and checks the time of the signature.

    Raises:
        TypeError: an argument has the wrong type.
        WebhookVerificationError: the header is malformed, or the signature is too old or too new.
    """
    require(DATA, raw_body=body)
    require(str, signature_header=header)
    require(OPTIONAL_NUMBER, now=now)
    require(NUMBER, tolerance=tolerance)
    try:
        signature = parse_signature(header)
    except ValueError as error:
        raise WebhookVerificationError("malformed_header", str(error)) from None
    if not abs((time.time() if now is None else now) - signature.timestamp) <= tolerance:
        raise WebhookVerificationError("outside_tolerance", "the signature is too old or too new")
    return signature


def _public_key(keys: Mapping[str, Any], kid: str) -> bytes:
    """Returns the Ed25519 key with a key id. Two keys with the same id count as no key.

    Raises:
        WebhookVerificationError: there is no such key.
    """
    entries = keys.get("keys")
    found = [
        entry
        for entry in (entries if isinstance(entries, list) else ())
        if isinstance(entry, dict) and entry.get("kid") == kid
    ]
    if len(found) == 1 and found[0].get("kty") == "OKP" and found[0].get("crv") == "Ed25519":
        try:
            key = decode_base64url(str(found[0].get("x")))
        except ValueError:
            key = b""
        if len(key) == 32:
            return key
    raise WebhookVerificationError("unknown_key", "the key set has no such key")


def _check_signature(signature: Signature, raw_body: bytes, key: bytes) -> None:
    """Raises WebhookVerificationError if the signature does not belong to the body and the key."""
    signed = signed_bytes(signature.timestamp, raw_body)
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature.signature, signed)
    except (InvalidSignature, ValueError):
        raise WebhookVerificationError(
            "bad_signature", "the signature does not belong to the body"
        ) from None


class _NoRedirects(HTTPRedirectHandler):
    """Refuses redirects, so that keys come only from the given URL."""

    def redirect_request(self, *_: Any) -> None:
        """Returns nothing, so that urllib raises an error for a redirect."""


def _fetch(url: str) -> tuple[Mapping[str, Any], float]:
    """Fetches a key set. Returns the key set and the seconds for which it may be used.

    Raises:
        OSError, HTTPException, ValueError, RecursionError: the key set cannot be fetched or decoded.
    """
    request = Request(url, headers={"Accept": "application/jwk-set+json, application/json"})
    try:
        reply = build_opener(_NoRedirects).open(request, timeout=FETCH_TIMEOUT)
    except HTTPError as error:
        error.close()
        raise
    with reply:
        text = reply.read(MAX_JWKS_BYTES + 1)
        max_age = _MAX_AGE.search(reply.headers.get("Cache-Control", ""))
    keys = json.loads(text) if len(text) <= MAX_JWKS_BYTES else None
    if not isinstance(keys, dict):
        raise ValueError("not a key set")
    return keys, float(max_age[1]) if max_age else DEFAULT_MAX_AGE
