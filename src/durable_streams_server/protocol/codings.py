"""Content codings (RFC 9110, 8.4 and 12.5.3): whether a response may be sent with gzip, and what a request's body must not have."""

import re
from collections.abc import Mapping
from typing import Final

from ..errors import UnsupportedMedia
from .names import CONTENT_ENCODING

_IDENTITY: Final = b"identity"
#: One element of an Accept-Encoding list, in lower case: a coding and its weight.
_ELEMENT: Final = re.compile(
    rb"([!#$%&'*+.^_`|~0-9a-z-]+)(?:[ \t]*;[ \t]*q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?))?"
)


def prefers_gzip(accept_encoding: bytes) -> bool:
    """Returns whether a client takes gzip, and would not rather have the body as it is.

    An element that is malformed counts for nothing. `*` stands for gzip if the list does not name gzip itself. A client that
    does not weigh `identity` wants gzip if it takes gzip at all.
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
    """Refuses the headers of a request whose body has a content coding: a stream holds the bytes that come, as they come.

    Raises:
        UnsupportedMedia: UNSUPPORTED_CONTENT_ENCODING, with the codings that would be taken (RFC 9110, 15.5.16).
    """
    codings = headers.get(CONTENT_ENCODING)
    if codings is not None and any(
        coding.strip(b" \t") not in (b"", _IDENTITY) for coding in codings.lower().split(b",")
    ):
        raise UnsupportedMedia(
            "the body must have no Content-Encoding", headers=[(b"accept-encoding", _IDENTITY)]
        )
