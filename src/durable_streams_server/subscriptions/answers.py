"""Decodes the body of a receiver's answer.

Deliveries ask for an answer without content encoding, but some frameworks and proxies compress every answer. If the server ignored a
compressed `{"done": true}`, it would wait for a callback that never comes. So a delivery fails if the body of its answer does not
decode.
"""

import codecs
import zlib
from collections.abc import Sequence
from typing import Final

from ..protocol.units import KIB
from .network import INVALID_ANSWER, TOO_LARGE, DeliveryFailed

#: Maximum bytes of a decoded body. A receiver only needs to send `{"done": true}`, so a larger body is a mistake or an attack.
MAX_REPLY_BODY: Final = 64 * KIB

_GZIP: Final = 16 + zlib.MAX_WBITS
_ZLIB: Final = zlib.MAX_WBITS
_RAW: Final = -zlib.MAX_WBITS
# The formats to try for each coding. `deflate` means the zlib format (RFC 9110, 8.4.1.2), but some servers omit the zlib header.
_FORMATS: Final = {b"gzip": (_GZIP,), b"x-gzip": (_GZIP,), b"deflate": (_ZLIB, _RAW)}

_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark is a prefix of this mark
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def decode(codings: Sequence[bytes], body: bytes) -> bytes:
    """Removes the content encoding from a body. A body with a byte order mark is converted to UTF-8 without the mark.

    Args:
        codings: the values of all Content-Encoding headers.
        body: the body as it was sent, at most `MAX_REPLY_BODY` bytes.

    Raises:
        DeliveryFailed: the encoding is unknown or nested, the body does not decode, or the decoded body has more than
            `MAX_REPLY_BODY` bytes.
    """
    named = [name.strip().lower() for value in codings for name in value.split(b",")]
    applied = [name for name in named if name not in (b"", b"identity")]
    if applied and body:
        formats = _FORMATS.get(applied[0], ()) if len(applied) == 1 else ()
        body = _decompress(formats, body)
    return _without_mark(body)


def _decompress(formats: Sequence[int], body: bytes) -> bytes:
    """Returns a body decompressed with the first of `formats` that fits it."""
    for wbits in formats:
        decompressor = zlib.decompressobj(wbits)
        try:
            decoded = decompressor.decompress(body, MAX_REPLY_BODY + 1)
        except zlib.error:
            continue
        if len(decoded) > MAX_REPLY_BODY:
            raise DeliveryFailed(TOO_LARGE, INVALID_ANSWER)
        if decompressor.eof and not decompressor.unused_data:
            return decoded
    raise DeliveryFailed(
        "the receiver's answer is in an encoding that was not asked for", INVALID_ANSWER
    )


def _without_mark(body: bytes) -> bytes:
    """Returns a body as UTF-8 without a byte order mark, or unchanged if it has no mark."""
    for mark, encoding in _MARKS:
        if not body.startswith(mark):
            continue
        if mark == codecs.BOM_UTF8:
            return body[len(mark) :]
        try:
            return body.decode(encoding).encode()
        except UnicodeDecodeError:
            raise DeliveryFailed(
                "the receiver's answer has a byte order mark and does not decode", INVALID_ANSWER
            ) from None
    return body
