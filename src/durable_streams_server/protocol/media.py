"""Parses content types, and derives the kind of a stream from its content type.

Two content types match if their type and subtype are equal. Case and parameters do not matter (PROTOCOL 5.2).
"""

import enum
import re
from email.message import Message
from functools import lru_cache
from typing import Final, NamedTuple

from ..errors import BadRequest
from .limits import MAX_CONTENT_TYPE_BYTES

_SHAPE: Final = re.compile(
    r"([!#$%&'*+.^_`|~0-9A-Za-z-]+/[!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*(?:;[\t\x20-\x7e]*)?"
)

_UTF8_NAMES: Final = frozenset({"utf-8", "utf8", "us-ascii", "ascii"})


class Kind(enum.Enum):
    """The kind of a stream, which decides how bytes are cut into pages and encoded in events (PROTOCOL 9)."""

    JSON = "json"
    TEXT = "text"
    BINARY = "binary"


class MediaType(NamedTuple):
    """A parsed content type.

    Attributes:
        text: the content type as the client wrote it.
        essence: the type and subtype in lower case, for comparisons.
        kind: the kind of the stream.
    """

    text: str
    essence: str
    kind: Kind


_KNOWN: dict[str, MediaType] = {}


def parse_media_type(text: str) -> MediaType:
    """Parses a Content-Type value.

    Raises:
        BadRequest: INVALID_CONTENT_TYPE, if it is not `type/subtype` with optional parameters.
    """
    known = _KNOWN.get(text)
    if known is not None:
        return known
    match = _SHAPE.fullmatch(text.strip())
    if match is None or len(text) > MAX_CONTENT_TYPE_BYTES:
        raise BadRequest("the content type is malformed", "INVALID_CONTENT_TYPE")
    essence = match[1].lower()
    if essence == "application/json":
        kind = Kind.JSON
    else:
        kind = Kind.TEXT if essence.startswith("text/") else Kind.BINARY
    media = MediaType(text.strip(), essence, kind)
    if len(_KNOWN) < 256:  # a bounded cache of the content types that clients send
        _KNOWN[text] = media
    return media


@lru_cache(256)
def is_utf8(media: MediaType) -> bool:
    """Returns whether a content type is text whose charset is UTF-8, ASCII, or not given."""
    if media.kind is not Kind.TEXT:
        return False
    header = Message()
    header["content-type"] = media.text
    try:
        return header.get_content_charset("utf-8") in _UTF8_NAMES
    except (TypeError, ValueError):
        return False  # a charset in parts (RFC 2231) that do not fit together
