"""Formats and parses webhook signatures (PROTOCOL 7.1, 12.10).

    Webhook-Signature: t=<unix seconds>,kid=<key id>,ed25519=<base64url, unpadded>

The server signs `<unix seconds>.<raw body>`, with the body exactly as sent. Each signature has exactly one spelling: the parameters
come in this order, once each, without white space. Any other header is malformed.
"""

import base64
import re
from typing import Any, Final, NamedTuple

import msgspec

SIGNATURE_HEADER: Final = b"webhook-signature"
#: Maximum seconds between a receiver's clock and the timestamp of a signature that it accepts (PROTOCOL 7.1).
REPLAY_WINDOW: Final = 300
SEED_BYTES: Final = 32  #: bytes of an Ed25519 private key (RFC 8032, 5.1.5)
MAX_KID_BYTES: Final = 128  #: bytes of a key id; the server's own key ids have 46

_HEADER: Final = re.compile(
    r"t=(0|[1-9][0-9]{0,11}),"  # 12 digits of seconds reach beyond the year 30000
    rf"kid=([A-Za-z0-9_-]{{1,{MAX_KID_BYTES}}}),"
    r"ed25519=([A-Za-z0-9_-]{86})"
)


class Key(msgspec.Struct, frozen=True, array_like=True):
    """One signing key of the server. Stores keep keys in this form, so the order of the fields must not change.

    Attributes:
        kid: the public key id, unique among all keys of the server.
        seed: the Ed25519 private key that signs webhooks, 32 bytes.
        secret: the secret that signs callback and claim tokens, 32 bytes.
        created_at: the time of its creation, in microseconds of steady time.
        retired_at: the time from which the server signs nothing with the key, in microseconds of steady time, or None.
    """

    kid: str
    seed: bytes
    secret: bytes
    created_at: int
    retired_at: int | None = None

    def __repr__(self) -> str:
        """Returns the key id without the secrets."""
        return f"Key({self.kid!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Returns the key id without the secrets, for the library `rich`, which calls this method to print an object."""
        return [("kid", self.kid)]


class Signature(NamedTuple):
    """A parsed `Webhook-Signature` header.

    Attributes:
        timestamp: the time of signing, in seconds of Unix time.
        kid: the id of the key that signed the body.
        signature: the signature, 64 bytes.
    """

    timestamp: int
    kid: str
    signature: bytes


def signed_bytes(timestamp: int, raw_body: bytes) -> bytes:
    """Returns the bytes that the server signs: the timestamp of the header, a dot, and the body as sent."""
    return b"%d.%b" % (timestamp, raw_body)


def format_signature(timestamp: int, kid: str, signature: bytes) -> str:
    """Returns the value of a `Webhook-Signature` header.

    Raises:
        ValueError: `parse_signature` would not accept the value.
    """
    text = f"t={timestamp},kid={kid},ed25519={encode_base64url(signature)}"
    if _HEADER.fullmatch(text) is None:
        raise ValueError("no webhook signature has such parts")
    return text


def parse_signature(text: str) -> Signature:
    """Parses the value of a `Webhook-Signature` header.

    Raises:
        ValueError: the value is malformed. The message does not quote the value.
    """
    match = _HEADER.fullmatch(text)
    if match is None:
        raise ValueError("the webhook signature is malformed")
    return Signature(int(match[1]), match[2], decode_base64url(match[3]))


def encode_base64url(data: bytes) -> str:
    """Returns bytes encoded in base64url without padding (RFC 4648, 5)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode_base64url(text: str) -> bytes:
    """Returns the bytes that unpadded base64url encodes. Each value has exactly one spelling.

    Raises:
        ValueError: the text has padding, characters of another alphabet, or unused bits that are not zero.
    """
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if encode_base64url(data) != text:
        raise ValueError("not base64url in its one spelling")
    return data
