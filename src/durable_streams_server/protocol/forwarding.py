"""Finds the scheme that the client used in the headers of proxies: `X-Forwarded-Proto` and `Forwarded` (RFC 7239).

Each proxy adds to the end of these lists, so the first entry comes from the proxy that the client connected to. The caller must
trust the peer that sent the headers. The scheme is only sent back to the client in `Location`, and decides nothing.
"""

import re
from collections.abc import Mapping
from typing import Final

from .names import FORWARDED, X_FORWARDED_PROTO

_SCHEMES: Final = {b"http": "http", b"https": "https"}
_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
#: Matches an optional parameter and the delimiter after it: `;` inside an element, `,` between two elements, or the end.
_PARAMETER: Final = re.compile(
    rb'[ \t]*+(?:(%b)=(?:(%b)|"((?:[^"\\]|\\.)*+)"))?[ \t]*+([;,]|\Z)' % (_TOKEN, _TOKEN), re.DOTALL
)
_ESCAPE: Final = re.compile(rb"\\(.)", re.DOTALL)


def client_scheme(headers: Mapping[bytes, bytes]) -> str | None:
    """Returns the scheme that the client used, or None if no proxy names one.

    `X-Forwarded-Proto` takes precedence, because proxies that set it tend to forward the client's own `Forwarded` unchanged.
    """
    said = headers.get(X_FORWARDED_PROTO)
    if said is not None:
        scheme = _SCHEMES.get(said.partition(b",")[0].strip(b" \t").lower())
        if scheme is not None:
            return scheme
    forwarded = headers.get(FORWARDED)
    return None if forwarded is None else _forwarded_scheme(forwarded)


def _forwarded_scheme(forwarded: bytes) -> str | None:
    """Returns the scheme in the first element that names one, or None if the list is malformed or the scheme is unknown."""
    found: bytes | None = None
    element = 0
    named: set[tuple[int, bytes]] = set()  # the parameters seen so far, as element number and name
    position = 0
    while position < len(forwarded):
        match = _PARAMETER.match(forwarded, position)
        if match is None:
            return None
        name, token, quoted, mark = match.groups()
        if name is not None:
            name = name.lower()
            if (element, name) in named:
                return None
            named.add((element, name))
            if name == b"proto" and found is None:
                found = _ESCAPE.sub(rb"\1", quoted) if token is None else token
        element += mark == b","
        position = match.end()
    return None if found is None else _SCHEMES.get(found.lower())
