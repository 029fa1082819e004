"""Webhook signatures: what is signed, and the header that carries it (PROTOCOL 7.1, 12.10).

    Webhook-Signature: t=<unix seconds>,kid=<key id>,ed25519=<base64url, unpadded>

The signature is over `<unix seconds>.<raw body>`: the exact bytes that are sent. One signature has one spelling: the
parameters stand in this order, once each, without white space, and everything else is malformed.
"""

import base64
import re
from typing import Any, Final, NamedTuple

import msgspec

SIGNATURE_HEADER: Final = b"webhook-signature"
REPLAY_WINDOW: Final = (
    300  # seconds to either side of now in which a receiver takes a signature, PROTOCOL 7.1
)
SEED_BYTES: Final = 32  # an Ed25519 private key, RFC 8032, 5.1.5
SIGNATURE_BYTES: Final = 64  # RFC 8032, 5.1.6
MAX_KID_BYTES: Final = 128  # ours have 46; a receiver keeps and compares it

_HEADER: Final = re.compile(
    r"t=(0|[1-9][0-9]{0,11}),"  # twelve digits of seconds reach past the year 30000
    rf"kid=([A-Za-z0-9_-]{{1,{MAX_KID_BYTES}}}),"
    r"ed25519=([A-Za-z0-9_-]{86})"
)


class Key(msgspec.Struct, frozen=True, array_like=True):
    """One signing key of the server. It is kept for good, so its fields stay in this order.

    Attributes:
        kid: its public name, unique among all keys of the server.
        seed: the Ed25519 private key, 32 bytes; signs webhooks.
        secret: 32 bytes; signs callback and claim tokens.
        created_at: microseconds of steady time.
        retired_at: microseconds of steady time from which nothing is signed with it, or None.
    """

    kid: str
    seed: bytes
    secret: bytes
    created_at: int
    retired_at: int | None = None

    def __repr__(self) -> str:
        """Names the key and leaves out what is secret."""
        return f"Key({self.kid!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """The same, for consoles that ask for parts."""
        return [("kid", self.kid)]


class Signature(NamedTuple):
    """What a `Webhook-Signature` header says.

    Attributes:
        timestamp: seconds of Unix time at which the body was signed.
        kid: which key signed it.
        signature: 64 bytes.
    """

    timestamp: int
    kid: str
    signature: bytes


def signed_bytes(timestamp: int, raw_body: bytes) -> bytes:
    """Returns what is signed: the seconds as in the header, a dot, the body as sent."""
    return b"%d.%b" % (timestamp, raw_body)


def format_signature(timestamp: int, kid: str, signature: bytes) -> str:
    """Returns the header's value.

    Raises:
        ValueError: when `parse_signature` would not take it.
    """
    text = f"t={timestamp},kid={kid},ed25519={encode_base64url(signature)}"
    if _HEADER.fullmatch(text) is None:
        raise ValueError("no webhook signature has such parts")
    return text


def parse_signature(text: str) -> Signature:
    """Parses the header's value.

    Raises:
        ValueError: for anything but the one spelling; the text says nothing of what was sent.
    """
    match = _HEADER.fullmatch(text)
    if match is None:
        raise ValueError("the webhook signature is malformed")
    return Signature(int(match[1]), match[2], decode_base64url(match[3]))


def encode_base64url(data: bytes) -> str:
    """Encodes as base64url without padding (RFC 4648, 5)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode_base64url(text: str) -> bytes:
    """Decodes unpadded base64url.

    Raises:
        ValueError: for padding, another alphabet, or spare bits that are not zero: one value has one spelling.
    """
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if encode_base64url(data) != text:
        raise ValueError("not base64url in its one spelling")
    return data
