"""Refuses requests of strangers' web pages that could change something, because CORS only hides the responses to such requests.

A stranger's page can reach a server on loopback without rebinding (`hosts.py`), because it can name 127.0.0.1 itself. The browser then sends the
page's origin in `Origin`. If the request is simple, such as a POST of plain text, the browser sends it without a preflight.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from typing import Final

from ...errors import Forbidden
from ...protocol.hosts import is_host
from ...protocol.names import HOST, ORIGIN
from ..browser import LOCAL
from ..request import SAFE_METHODS, Request
from .hosts import HostNames

_KEPT: Final = 256  # maximum number of origins that are known to be local
_SCHEMES: Final = (b"http", b"https")


class LocalOrigins:
    """Recognises the origins of pages that come from this machine, over http or https and at any port.

    Args:
        names: The names of this machine. Addresses of the loopback interface count too.
    """

    def __init__(self, names: HostNames) -> None:
        self._names = names
        self._known: set[bytes] = set()

    def __contains__(self, origin: object) -> bool:
        """Returns whether a value of `Origin` is the origin of a page of this machine."""
        if origin in self._known:
            return True
        if not isinstance(origin, bytes) or not self._is_local(origin):
            return False  # not remembered, because a name can be added later
        if len(self._known) < _KEPT:
            self._known.add(origin)
        return True

    def _is_local(self, origin: bytes) -> bool:
        scheme, _, host = origin.partition(b"://")
        if scheme not in _SCHEMES or not is_host(host):
            return False
        text = host.decode("ascii")
        if text.startswith("["):
            return _is_loopback(text[1:].partition("]")[0])
        name = text.partition(":")[0]
        return name in self._names or _is_loopback(name)


class OriginCheck:
    """Refuses requests other than GET, HEAD and OPTIONS that come from a page of a foreign origin.

    The server's own origin and those that CORS allows are not foreign. Programs that are no browsers send no `Origin`, and are not refused.
    `HostCheck` must come first, because a page that has rebound its name has the server's own origin.

    Args:
        allowed: The origins that CORS allows. The text `local` in it is ignored, because the argument `local` recognises those origins.
        local: Recognises further origins that are allowed.
    """

    def __init__(self, allowed: Iterable[str], local: LocalOrigins | None) -> None:
        self._allowed = frozenset(origin.encode("latin-1") for origin in allowed if origin != LOCAL)
        self._local = local

    def __call__(self, request: Request) -> None:
        """Refuses a request of a page of a foreign origin.

        Raises:
            Forbidden: FOREIGN_ORIGIN.
        """
        origin = request.headers.get(ORIGIN)
        if origin is None or request.method in SAFE_METHODS or origin in self._allowed:
            return
        if self._local is not None and origin in self._local:
            return
        if not _is_same_origin(request, origin):
            raise Forbidden(
                "pages of this origin may not change streams here; --cors-origin allows an origin",
                "FOREIGN_ORIGIN",
            )


def _is_same_origin(request: Request, origin: bytes) -> bool:
    """Returns whether a page asks its own origin, as far as its browser tells.

    A proxy may have changed the host, and then only `Sec-Fetch-Site` tells. It may also have ended TLS, so http and https count as the same.
    """
    headers = request.headers
    if (site := headers.get(b"sec-fetch-site")) is not None:
        return site == b"same-origin"
    scheme, _, host = origin.partition(b"://")
    return scheme in _SCHEMES and bool(host) and host.lower() == headers.get(HOST, b"").lower()


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False
