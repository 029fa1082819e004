"""`AppendLimits`: checks appends and creates against the limits of their clients, at the gate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ...protocol.permissions import NO_LIMITS
from ..limits.rates import Rates
from ..request import Request, too_large
from .clients import client_key
from .permit import Permit

_COUNTED: Final = ("POST", "PUT")


class AppendLimits:
    """Refuses appends and creates of clients that send too many of them, too many bytes, or too large a body.

    Args:
        rates: Counts the appends of each client.
        find: Returns the decoded path of a request, and whether the path is one of the server's own routes.
    """

    def __init__(self, rates: Rates, find: Callable[[bytes, str], tuple[str, bool]]) -> None:
        self._rates = rates
        self._find = find
        self._limits_all = rates.limits_all

    def check(self, request: Request, permit: Permit, peer: str | None) -> Permit:
        """Counts an append or a create, and returns the permit. Other requests pass uncounted.

        Raises:
            TooLarge: The token of the client does not allow so large a body.
            TooManyRequests: TOO_MANY_APPENDS or TOO_MANY_BYTES.
            BadRequest, NotFound: The path names neither a stream nor a route.
        """
        if permit.limits is NO_LIMITS and not self._limits_all:
            return permit
        if request.method in _COUNTED:
            known = request.known
            if (known is not None and known.append is not None) or self._is_of_stream(request):
                client = permit.client or request.client or peer  # inlines `client_key`
                if client is not None:
                    own, size = permit.limits, len(request.body)
                    if own.body_bytes is not None and size > own.body_bytes:
                        raise too_large(own.body_bytes)
                    self._rates.take(client, size, own.appends_per_second, own.bytes_per_second)
        return permit

    def check_head(self, request: Request, permit: Permit, peer: str | None) -> None:
        """Refuses an append or a create before its body is received, if `check` would refuse it now.

        Raises:
            TooLarge, TooManyRequests, BadRequest, NotFound: As `check`.
        """
        if request.method in _COUNTED and self._is_of_stream(request):
            client = client_key(permit, request, peer)
            if client is not None:
                own, size = permit.limits, request.declared or 0
                if own.body_bytes is not None and size > own.body_bytes:
                    raise too_large(own.body_bytes)
                self._rates.check(client, size, own.appends_per_second, own.bytes_per_second)

    def _is_of_stream(self, request: Request) -> bool:
        """Returns whether the path of a request is that of a stream, and not one of the server's own routes."""
        return not self._find(request.raw_path, request.root_path)[1]
