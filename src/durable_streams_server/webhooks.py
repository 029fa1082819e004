"""For those who receive webhooks: proves that one comes from the server, and is fresh (PROTOCOL 7.1, 12.10).

    from durable_streams_server.webhooks import JwksClient

    jwks = JwksClient("https://server.example/v1/stream/__ds/jwks.json")
    jwks.verify(request.body, request.headers["Webhook-Signature"])

Give it the exact bytes that came in, before anything has parsed them. A signature proves who sent the body, not that it has not
come before: within the replay window the same one may come twice, as every retry does.
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

DEFAULT_MAX_AGE: Final = 300  # seconds a key set is used when its answer does not say, PROTOCOL 6.5
LONGEST_MAX_AGE: Final = 86_400  # seconds; a key that is withdrawn must not be believed for longer
FETCH_INTERVAL: Final = (
    10.0  # seconds between fetches at least, so that forged key ids cause no more
)
FETCH_TIMEOUT: Final = 5.0  # seconds for each step of one
MAX_JWKS_BYTES: Final = 64 * 1024  # hundreds of keys

_MAX_AGE: Final = re.compile(r"(?:^|[\s,])max-age=\"?([0-9]{1,9})", re.IGNORECASE)

#: What urllib, TLS and JSON may have against a key set.
_UNAVAILABLE: Final = (OSError, HTTPException, ValueError, RecursionError)

#: Why a webhook is not to be believed. `keys_unavailable` alone is no fault of the sender: answer it with a 503.
Reason: TypeAlias = Literal[
    "malformed_header", "outside_tolerance", "unknown_key", "bad_signature", "keys_unavailable"
]


class WebhookVerificationError(Exception):
    """A webhook must not be believed. Answer 401 and do no work.

    Attributes:
        reason: a stable word, for programs.
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
    """Returns when a webhook is to be believed.

    Args:
        raw_body: the exact bytes that came in.
        signature_header: the value of `Webhook-Signature`. If the header came twice, join the values with a comma: it is refused.
        keys: the server's JWK Set, as decoded from JSON.
        now: seconds of Unix time; the machine's unless given.
        tolerance: seconds that the signature's time may lie to either side of now.

    Raises:
        WebhookVerificationError: with the reason.
    """
    require(Mapping, keys=keys)
    signature = _fresh(raw_body, signature_header, now, tolerance)
    _check(signature, raw_body, _public_key(keys, signature.kid))


class JwksClient:
    """Fetches the server's JWK Set when it is needed, and keeps it for as long as the answer says.

    It may be used from many threads. Calls that fetch wait for the server, `FETCH_TIMEOUT` seconds and more: in a coroutine use
    `asyncio.to_thread`.

    Args:
        url: the `jwks_url` of the subscription: HTTPS, or HTTP to this machine.
        clock: seconds that never go back.

    Raises:
        ValueError: for another kind of URL.
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
        """Does what the function `verify` does, with the server's own keys.

        A key that is not known causes a fetch, but never within `FETCH_INTERVAL` seconds of the last.

        Raises:
            WebhookVerificationError: with the reason.
        """
        signature = _fresh(raw_body, signature_header, now, tolerance)
        try:
            key = _public_key(self._current(), signature.kid)
        except WebhookVerificationError as error:
            if error.reason != "unknown_key":
                raise
            key = _public_key(self._current(anew=True), signature.kid)
        _check(signature, raw_body, key)

    def _current(self, anew: bool = False) -> Mapping[str, Any]:
        with self._lock:
            now = self._clock()
            stale = self._keys is None or now >= self._stale_at
            if (stale or anew) and now >= self._fetch_at:
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


def _fresh(body: bytes, header: str, now: float | None, tolerance: float) -> Signature:
    """Returns what the header says, once it is known to be of this time.

    Raises:
        TypeError: an argument of the wrong type.
        WebhookVerificationError: with the reason.
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
    """Returns the one Ed25519 key with that id; two with the same id are none."""
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


def _check(signature: Signature, raw_body: bytes, key: bytes) -> None:
    signed = signed_bytes(signature.timestamp, raw_body)
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature.signature, signed)
    except (InvalidSignature, ValueError):
        raise WebhookVerificationError(
            "bad_signature", "the signature does not belong to the body"
        ) from None


class _NoRedirects(HTTPRedirectHandler):
    """Keys come from the URL that was given and from nowhere else."""

    def redirect_request(self, *_: Any) -> None:
        """Follows none, so that a redirect is an error like any other status."""


def _fetch(url: str) -> tuple[Mapping[str, Any], float]:
    """Returns a key set and the seconds for which it may be used.

    Raises:
        OSError, HTTPException, ValueError, RecursionError: it cannot be had.
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
