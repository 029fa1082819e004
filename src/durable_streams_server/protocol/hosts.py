"""Validates the Host header (RFC 9110, 7.2; RFC 9112, 3.2), whose value the server repeats in `Location`.

A host name consists of letters, digits, `-`, `.`, `_`, `~` and percent escapes. RFC 3986 also allows characters such as quotes and
commas. These are refused, because no real host has them and they have another meaning in logs and lists.
"""

import re
from functools import lru_cache
from ipaddress import IPv6Address
from typing import Final

from ..errors import BadRequest

_LONGEST: Final = 270  # bytes, enough for a name of 255 bytes and a port
_HOST: Final = re.compile(
    rb"(?:(?:[A-Za-z0-9._~-]|%[0-9A-Fa-f]{2})+|\[([0-9A-Fa-f:.]+)\])(?::([0-9]{0,5}))?"
)
_LAST_PORT: Final = 65_535
_KEPT: Final = 256  # number of cached hosts; nearly all requests name the same few


def check_host(host: bytes | None, *, is_needed: bool) -> None:
    """Refuses a Host header that cannot come from a URL. An empty value is valid for a URL without a host.

    Args:
        host: the value of the `Host` header, or None if the request has none.
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
    """Returns whether bytes are a host name or an IP address, with or without a port, in the syntax of a URL."""
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
