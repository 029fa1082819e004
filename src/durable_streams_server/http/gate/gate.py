"""`Gate`: the checks that every request passes before it reaches a route.

The checks run in this order, and the first refusal ends them: the host that the request names, the origin of its page, the rights of its
token, and the limits of its client. A preflight passes with the first two alone, because it precedes any authorisation (TRAPS 44).

All checks but the limits depend on nothing but the head of the request. So their outcome is kept with a head that was received before, and
a further request with the same head costs two comparisons.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from ...storage.ticket import Ticket
from ..request import Request
from .origins import LocalOrigins
from .permit import OPEN, Permit

#: Functions that refuse requests for their heads alone.
Checks = Sequence[Callable[[Request], None]]


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


class Generation(Protocol):
    """Tells when tokens may have become invalid.

    Attributes:
        generation: A number that grows whenever that happens.
    """

    generation: int


class Access(Protocol):
    """Finds out who sends a request, and refuses it without the necessary rights.

    Attributes:
        authenticator: Tells when tokens may have become invalid.
    """

    @property
    def authenticator(self) -> Generation: ...

    def authorize(self, request: Request) -> Permit | Ticket[Permit]:
        """Returns the permit of a request, or a ticket if the answer must wait, for example until keys are fetched.

        Raises:
            StreamError: The request is refused. The ticket fails with the same errors.
        """
        ...


class _Never:
    """The generation of the tokens of a server without access control."""

    generation = OPEN.generation


class Gate:
    """Admits or refuses requests. A check that is None admits every request.

    Args:
        checks: Each refuses requests for their heads alone, such as those that name a host that is not this server's.
        access: Finds out who sends a request, and refuses it without the necessary rights.
        limits: Refuses requests above the limits of their clients.
        clock: Returns the wall-clock time in microseconds since 1970. Needed with `access`.
        local_origins: Recognises the origins of pages of this machine. None if no setting names them.

    Attributes:
        local_origins: The same.
    """

    def __init__(
        self,
        checks: Checks = (),
        access: Access | None = None,
        limits: Limits | None = None,
        clock: Callable[[], int] = lambda: 0,
        local_origins: LocalOrigins | None = None,
    ) -> None:
        self.local_origins = local_origins
        self._checks = checks
        self._access = access
        self._limits = limits
        self._clock = clock
        self._tokens: Generation = _Never() if access is None else access.authenticator

    def admit(self, request: Request, peer: str | None) -> Permit | Ticket[Permit]:
        """Returns the permit of a request, or a ticket for the permit.

        Args:
            request: The request, whose body may be missing.
            peer: The address under which the connection is counted, from `limits.shares.address_of`.

        Raises:
            StreamError: A check refuses the request. A ticket fails with the same errors.
        """
        known = request.known
        kept = None if known is None else known.permit
        permit: Permit | Ticket[Permit]
        if (
            kept is not None
            and kept.generation == self._tokens.generation
            and (kept.until is None or self._clock() < kept.until)
        ):
            permit = kept  # nearly always, so it costs no further call
        else:
            permit = self.authorize(request)
        limits = self._limits
        if limits is None or request.method == "OPTIONS":
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
        permit = self.authorize(request)
        if isinstance(permit, Ticket):
            if not permit.done:
                return
            permit = permit.result()
        if self._limits is not None:
            self._limits.check_head(request, permit, peer)

    def authorize(self, request: Request) -> Permit | Ticket[Permit]:
        """Returns the permit of a request, or a ticket for it, without counting the request against the limits of its client.

        Raises:
            StreamError: The request is refused. The ticket fails with the same errors.
        """
        for check in self._checks:
            check(request)
        if self._access is None or request.method == "OPTIONS":
            permit: Permit | Ticket[Permit] = OPEN
        else:
            permit = self._access.authorize(request)
        if request.known is not None and isinstance(permit, Permit):
            request.known.permit = permit
        return permit
