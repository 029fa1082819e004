"""What proxies say of the client in `X-Forwarded-Proto` and `Forwarded` (RFC 7239): the scheme that the client used.

Each proxy adds to the end of these lists, so the first entry is of the proxy that the client spoke to. Whoever asks here trusts
the peer that has sent the headers; what is taken from them is shown to the client again, in `Location`, and decides nothing.
"""

import re
from collections.abc import Mapping
from typing import Final

from .names import FORWARDED, X_FORWARDED_PROTO

_SCHEMES: Final = {b"http": "http", b"https": "https"}
_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
#: One parameter, or none, and the mark that follows it: `;` within an element, `,` between two, or the end.
_PARAMETER: Final = re.compile(
    rb'[ \t]*+(?:(%b)=(?:(%b)|"((?:[^"\\]|\\.)*+)"))?[ \t]*+([;,]|\Z)' % (_TOKEN, _TOKEN), re.DOTALL
)
_ESCAPE: Final = re.compile(rb"\\(.)", re.DOTALL)


def client_scheme(headers: Mapping[bytes, bytes]) -> str | None:
    """Returns the scheme that the client used, or None if no proxy says so.

    `X-Forwarded-Proto` counts before `Forwarded`: proxies that set it tend to pass on the other as their client sent it.
    """
    said = headers.get(X_FORWARDED_PROTO)
    if said is not None:
        scheme = _SCHEMES.get(said.partition(b",")[0].strip(b" \t").lower())
        if scheme is not None:
            return scheme
    forwarded = headers.get(FORWARDED)
    return None if forwarded is None else _forwarded_scheme(forwarded)


def _forwarded_scheme(forwarded: bytes) -> str | None:
    """Returns the scheme of the first element that names one, or None if the list is malformed or the scheme unknown."""
    found: bytes | None = None
    element = 0
    named: set[tuple[int, bytes]] = set()  # which parameter of which element
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
