"""`Gate`: the checks that every request passes before it reaches a route.

The checks run in this order, and the first refusal ends them: the host that the request names, the rights of its token, and the limits of
its client. A preflight never reaches the gate, because it precedes any authorisation (TRAPS 44).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from ...storage.ticket import Ticket
from ..request import Request
from .permit import OPEN, Permit


class Limits(Protocol):
    """The limits of clients. Checks them before the server does any work for a request (TRAPS 51)."""

    def check(self, request: Request, permit: Permit, peer: str | None) -> Permit:
        """Counts a request against the limits of its client, and returns the permit.

        Raises:
            TooManyRequests, Unavailable: A limit is reached. The error has a `Retry-After`.
        """
        ...

    def check_head(self, request: Request, permit: Permit, peer: str | None) -> None:
        """Refuses a request whose body would be refused by `check`. Counts nothing, because the body has not been received.

        Raises:
            TooManyRequests, Unavailable: As `check`.
        """
        ...


class Gate(msgspec.Struct, frozen=True):
    """Admits or refuses requests. A check that is None admits every request.

    Attributes:
        check_host: Refuses requests that name a host that is not this server's.
        authorize: Finds out who sends a request, and refuses it without the necessary rights. Returns a ticket if the answer must wait,
            for example until keys are fetched.
        limits: Refuses requests above the limits of their clients.
    """

    check_host: Callable[[Request], None] | None = None
    authorize: Callable[[Request], Permit | Ticket[Permit]] | None = None
    limits: Limits | None = None

    def admit(self, request: Request, peer: str | None) -> Permit | Ticket[Permit]:
        """Returns the permit of a request, or a ticket for the permit.

        Args:
            request: The request, whose body may be missing.
            peer: The address under which the connection is counted, from `limits.shares.address_of`.

        Raises:
            StreamError: A check refuses the request. A ticket fails with the same errors.
        """
        if self.check_host is not None:
            self.check_host(request)
        permit = OPEN if self.authorize is None else self.authorize(request)
        limits = self.limits
        if limits is None:
            return permit
        if isinstance(permit, Ticket):
            return permit.then(lambda found: Ticket.of(limits.check(request, found, peer)))
        return limits.check(request, permit, peer)

    def check_head(self, request: Request, peer: str | None) -> None:
        """Refuses a request before its body is received. Does nothing if the rights of its token are not known yet.

        Args:
            request: The request without its body.
            peer: The address under which the connection is counted.

        Raises:
            StreamError: The refusal that the whole request would get.
        """
        if self.check_host is not None:
            self.check_host(request)
        permit = OPEN if self.authorize is None else self.authorize(request)
        if isinstance(permit, Ticket):
            if not permit.done:
                return
            permit = permit.result()
        if self.limits is not None:
            self.limits.check_head(request, permit, peer)
