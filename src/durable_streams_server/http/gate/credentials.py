"""Finds the token of a request: in `Authorization`, in a cookie, or in the signature of its URL.

A browser sends a cookie also when the page of another site makes the request. So a cookie counts only for requests of pages that may use
it. A request for which it does not count is treated as one without a token.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from ...errors import Unauthorized
from ...protocol.names import AUTHORIZATION, COOKIE, HOST, ORIGIN
from ..browser import LOCAL
from ..request import Request

#: The name of the cookie that has a token.
DEFAULT_COOKIE: Final = "durable_streams_token"
_SEC_FETCH_SITE: Final = b"sec-fetch-site"
_SAFE: Final = ("GET", "HEAD")
_SIGNATURE: Final = b"signature="


class Credential(msgspec.Struct, frozen=True):
    """What a client has sent to be recognised. Its text never shows the token.

    Attributes:
        token: The token.
        query: The query of a signed URL; empty if there is a token.
    """

    token: str
    query: bytes = b""

    def __repr__(self) -> str:
        """Returns a text without the token."""
        return "Credential()"

    def __rich_repr__(self) -> list[tuple[str, str]]:
        """Returns nothing, for the library `rich`, which calls this method to print an object."""
        return []


class Credentials:
    """Finds the tokens of requests.

    Args:
        cookie: The name of the cookie that has a token.
        origins: Further origins whose pages may use the cookie. `*` and `local` do not count, because browsers send no cookies to a
            server that allows an origin only through them.

    Raises:
        ValueError: The name cannot be that of a cookie.
    """

    def __init__(self, cookie: str = DEFAULT_COOKIE, origins: Iterable[str] = ()) -> None:
        self._cookie = check_cookie_name(cookie).encode("ascii")
        self._origins = frozenset(
            origin.encode("latin-1") for origin in origins if origin not in ("*", LOCAL)
        )

    def find(self, request: Request) -> Credential | None:
        """Returns the token or the signed query of a request, or None if it has neither.

        A token in `Authorization` takes precedence over one in the cookie, because the client's own code has set the header for this
        request. A token in the cookie takes precedence over a signature.

        Raises:
            Unauthorized: INVALID_TOKEN. The request has two tokens in the same place, and two readers could disagree about which counts.
        """
        headers = request.headers
        authorization = headers.get(AUTHORIZATION)
        if authorization is not None:
            if AUTHORIZATION in request.repeated:
                raise Unauthorized("the request has more than one Authorization header")
            scheme, _, token = authorization.partition(b" ")
            if scheme.lower() == b"bearer":
                return Credential(token.strip(b" ").decode("latin-1"))
        if COOKIE in headers and (found := self._in_cookie(request)) is not None:
            return found
        if request.method in _SAFE and _SIGNATURE in request.query:
            return Credential("", request.query)
        return None

    def _in_cookie(self, request: Request) -> Credential | None:
        """Returns the token in the cookie of a request, or None if there is none or it does not count.

        Raises:
            Unauthorized: INVALID_TOKEN.
        """
        values = set()
        for pair in request.headers[COOKIE].split(b";"):
            name, separator, value = pair.strip(b" \t").partition(b"=")
            if separator and name == self._cookie:
                values.add(value.strip(b'"'))
        if not values or not self._may_use_cookie(request):
            return None
        if len(values) > 1:  # as if the page of a sister domain had added one
            raise Unauthorized("the request has more than one cookie with a token")
        return Credential(values.pop().decode("latin-1"))

    def _may_use_cookie(self, request: Request) -> bool:
        """Returns whether a request comes from a page that may use the cookie, as far as its browser tells.

        A browser names the origin of the page in requests that may change something and in requests to other origins, and
        `Sec-Fetch-Site` in requests to HTTPS and to this machine. A request without both may only read.
        """
        headers = request.headers
        site = headers.get(_SEC_FETCH_SITE)
        if site == b"same-origin":
            return True
        origin = headers.get(ORIGIN)
        if origin is None:
            return request.method in _SAFE and site in (None, b"none")
        host = headers.get(HOST, b"")
        own = b"%b://%b" % (request.scheme.encode("ascii"), host)
        return origin in self._origins or (site is None and origin.lower() == own.lower())


def check_cookie_name(name: str) -> str:
    """Returns the name of a cookie unchanged, after checking it.

    Raises:
        ValueError: The name has other characters than letters, digits, `-` and `_`, or begins with a digit.
    """
    if not name.isascii() or not name.replace("-", "_").isidentifier():
        raise ValueError(f"{name!r} is not the name of a cookie: use letters, digits, - and _")
    return name
