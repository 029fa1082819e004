"""Content types: which of the three ways a stream's bytes are treated.

Two content types are the same when their type and subtype are, whatever their case and parameters (PROTOCOL 5.2).
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
    """How bytes are cut into pages and encoded in events (PROTOCOL 9)."""

    JSON = "json"
    TEXT = "text"
    BINARY = "binary"


class MediaType(NamedTuple):
    """A content type: the text as the client wrote it, its essence for comparison, and its kind."""

    text: str
    essence: str
    kind: Kind


_KNOWN: dict[str, MediaType] = {}


def parse_media_type(text: str) -> MediaType:
    """Parses a Content-Type value.

    Raises:
        BadRequest: INVALID_CONTENT_TYPE when it is not `type/subtype` with optional parameters.
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
    if len(_KNOWN) < 256:  # a memo of what clients really send; a flood of odd types cannot grow it
        _KNOWN[text] = media
    return media


@lru_cache(256)
def is_utf8(media: MediaType) -> bool:
    """Returns whether a stream holds UTF-8 text: it is text, and its charset is UTF-8, ASCII, or not given."""
    if media.kind is not Kind.TEXT:
        return False
    header = Message()
    header["content-type"] = media.text
    try:
        return header.get_content_charset("utf-8") in _UTF8_NAMES
    except (TypeError, ValueError):  # of a charset in parts (RFC 2231) that make no whole
        return False
