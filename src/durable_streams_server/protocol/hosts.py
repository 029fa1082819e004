"""The host that a request names (RFC 9110, 7.2; RFC 9112, 3.2), which `Location` repeats.

A name consists of letters, digits, `-`, `.`, `_`, `~` and percent escapes. RFC 3986 allows more in a name, such as quotes and
commas. No client has such names, and they read as something else in a log or a list.
"""

import re
from functools import lru_cache
from ipaddress import IPv6Address
from typing import Final

from ..errors import BadRequest

_LONGEST: Final = 270  # bytes: 255 of a name, and a port
_HOST: Final = re.compile(
    rb"(?:(?:[A-Za-z0-9._~-]|%[0-9A-Fa-f]{2})+|\[([0-9A-Fa-f:.]+)\])(?::([0-9]{0,5}))?"
)
_LAST_PORT: Final = 65_535
_KEPT: Final = 256  # hosts whose validity is kept: nearly all requests name the same few


def check_host(host: bytes | None, *, is_needed: bool) -> None:
    """Refuses a host that no URL can have. An empty one means that the URL has none.

    Args:
        host: the value of the `Host` header, or None without one.
        is_needed: whether the request must have the header, as in HTTP/1.1.

    Raises:
        BadRequest: INVALID_HOST.
    """
    if host is None:
        if is_needed:
            raise BadRequest("an HTTP/1.1 request needs a Host header", "INVALID_HOST")
    elif host and not is_host(host):
        raise BadRequest("the Host header names no host", "INVALID_HOST")


def is_host(host: bytes) -> bool:
    """Returns whether octets are a name or an address, with or without a port, as a URL has them."""
    return len(host) <= _LONGEST and _is_host(host)


@lru_cache(_KEPT)
def _is_host(host: bytes) -> bool:
    match = _HOST.fullmatch(host)
    if match is None:
        return False
    literal, port = match.groups()
    if port and int(port) > _LAST_PORT:
        return False
    return literal is None or _is_ipv6(literal.decode("ascii"))


def _is_ipv6(literal: str) -> bool:
    try:
        IPv6Address(literal)
    except ValueError:
        return False
    return True
