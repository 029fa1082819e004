"""Decides whether to compress a response with gzip, and refuses compressed request bodies (RFC 9110, 8.4 and 12.5.3)."""

import re
from collections.abc import Mapping
from typing import Final

from ..errors import UnsupportedMedia
from .names import CONTENT_ENCODING

_IDENTITY: Final = b"identity"
#: Matches one element of an Accept-Encoding list in lower case, which is a coding and its weight.
_ELEMENT: Final = re.compile(
    rb"([!#$%&'*+.^_`|~0-9a-z-]+)(?:[ \t]*;[ \t]*q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?))?"
)


def prefers_gzip(accept_encoding: bytes) -> bool:
    """Returns whether a client accepts gzip and does not prefer the uncompressed body.

    Malformed elements are ignored. `*` stands for gzip if the list does not name gzip. If the list does not name
    `identity`, a client that accepts gzip also prefers gzip.
    """
    weights: dict[bytes, float] = {}
    for part in accept_encoding.lower().split(b","):
        element = _ELEMENT.fullmatch(part.strip(b" \t"))
        if element is not None:
            coding, weight = element.groups()
            if coding == b"x-gzip":
                coding = b"gzip"  # RFC 9110, 8.4.1.3
            weights[coding] = max(
                weights.get(coding, 0.0), 1.0 if weight is None else float(weight)
            )
    gzip = weights.get(b"gzip", weights.get(b"*", 0.0))
    return gzip > 0 and gzip >= weights.get(_IDENTITY, 0.0)


def refuse_coded(headers: Mapping[bytes, bytes]) -> None:
    """Refuses a request whose body has a content coding, because a stream stores the bytes exactly as they arrive.

    Raises:
        UnsupportedMedia: UNSUPPORTED_CONTENT_ENCODING, with the accepted codings in a header (RFC 9110, 15.5.16).
    """
    codings = headers.get(CONTENT_ENCODING)
    if codings is not None and any(
        coding.strip(b" \t") not in (b"", _IDENTITY) for coding in codings.lower().split(b",")
    ):
        raise UnsupportedMedia(
            "the body must have no Content-Encoding", headers=[(b"accept-encoding", _IDENTITY)]
        )
