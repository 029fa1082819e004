"""Decides from the token of a request whether the client may do what it asks for.

The decision is made on the decoded path that routes, before the stream is looked up, and a refusal is the same whether the stream
exists or not. The one exception is a stream that its creator has declared public: anyone may read it. A stream that is not public and
one that does not exist still get the same refusal.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from ...errors import StreamError, Unauthorized
from ...protocol.permissions import Claims
from ...protocol.state import StreamState
from ...storage.ticket import Ticket
from ..request import Request
from ..targets import Targets
from .actions import Actions, actions_of
from .credentials import Credential, Credentials
from .permit import ANYONE, Permit, not_allowed

_KEPT: Final = (
    4096  # maximum number of permits that are kept for requests that ask for the same again
)


class Authenticator(Protocol):
    """Recognises clients by their tokens.

    Attributes:
        generation: A number that grows whenever a token may have become invalid.
    """

    generation: int

    def authenticate(self, token: str, now: int) -> Claims | Ticket[Claims]:
        """Returns the claims of a token, or a ticket if keys must be fetched first.

        Raises:
            Unauthorized: The token is not valid. The ticket fails with the same error.
        """
        ...

    def verify_url(self, path: str, query: bytes, now: int) -> Claims | None:
        """Returns the claims of a signed URL, or None if its query has no signature.

        Raises:
            Unauthorized: The signature is not valid.
        """
        ...


class Access:
    """Finds out who sends a request, and refuses it unless a token allows all its actions.

    Args:
        authenticator: Recognises clients by their tokens.
        credentials: Finds the tokens of requests.
        targets: Decodes paths as the routes do.
        find: Finds a stream that readers may see.
        clock: Returns the wall-clock time in microseconds since 1970.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        credentials: Credentials,
        targets: Targets,
        find: Callable[[str], Ticket[StreamState]],
        clock: Callable[[], int],
    ) -> None:
        self.authenticator = authenticator
        self._credentials = credentials
        self._targets = targets
        self._find = find
        self._clock = clock
        self._permits: dict[tuple[Credential, Actions], Permit] = {}

    def authorize(self, request: Request) -> Permit | Ticket[Permit]:
        """Returns the permit of a request, or a ticket if the server must first fetch keys or load the stream.

        Raises:
            Unauthorized: TOKEN_REQUIRED, INVALID_TOKEN or TOKEN_EXPIRED. The ticket fails with the same errors.
            Forbidden: The token does not allow an action. The ticket fails with the same error.
            BadRequest, NotFound: The path names no stream.
        """
        actions = actions_of(request, self._targets)
        if not actions:
            return ANYONE
        credential = self._credentials.find(request)
        if credential is None:
            return self._unless_private(actions, _token_required())
        now = self._clock()
        known = self._permits.get((credential, actions))
        if known is not None and known.is_current(self.authenticator.generation, now):
            return known
        claims = self._recognise(credential, actions, now)
        if isinstance(claims, Ticket):
            return claims.then(lambda found: _ticket(self._permit(credential, actions, found)))
        return self._permit(credential, actions, claims)

    def _recognise(
        self, credential: Credential, actions: Actions, now: int
    ) -> Claims | Ticket[Claims]:
        """Returns the claims of a client, or a ticket if keys must be fetched first.

        Raises:
            Unauthorized: The token or the signature is not valid.
        """
        if not credential.query:
            return self.authenticator.authenticate(credential.token, now)
        verb, path = actions[0]
        claims = (
            self.authenticator.verify_url(path, credential.query, now) if verb == "read" else None
        )
        if claims is None:
            raise _token_required()
        return claims

    def _permit(
        self, credential: Credential, actions: Actions, claims: Claims
    ) -> Permit | Ticket[Permit]:
        """Returns the permit of a client that was recognised.

        Raises:
            Forbidden: The token does not allow an action, and the request does not read a public stream.
        """
        generation = self.authenticator.generation
        still_holds = partial(self._still_holds, credential, actions, generation)
        permit = Permit(
            claims.subject, claims.expires_at, claims.limits, claims, still_holds, generation
        )
        if not permit.allows(actions):
            return self._unless_private(actions, not_allowed())
        if len(self._permits) >= _KEPT:
            self._permits.clear()
        self._permits[credential, actions] = permit
        return permit

    def _unless_private(self, actions: Actions, refusal: StreamError) -> Permit | Ticket[Permit]:
        """Returns the permit of a client that may only read public streams, or a ticket if the stream must be loaded first.

        Raises:
            StreamError: The refusal, because the request does not read a public stream. The ticket fails with it likewise.
        """
        verb, path = actions[0]
        if verb != "read":
            raise refusal
        found = self._find(path)
        if found.done:
            return _if_public(found, refusal)
        permit: Ticket[Permit] = Ticket()
        permit.on_cancel(found.cancel)

        def decide(loaded: Ticket[StreamState]) -> None:
            try:
                permit.resolve(_if_public(loaded, refusal))
            except Exception as error:
                permit.fail(error)

        found.add_callback(decide)
        return permit

    def _still_holds(self, credential: Credential, actions: Actions, generation: int) -> bool:
        """Returns whether a client that was allowed to act would be allowed now. Tokens are read again only in a new generation."""
        if self.authenticator.generation == generation:
            return True
        try:
            claims = self._recognise(credential, actions, self._clock())
        except Unauthorized:
            return False
        except StreamError:
            return True  # the keys cannot be fetched now, which says nothing about the token
        # While keys are fetched, the read goes on. It is checked again soon.
        return isinstance(claims, Ticket) or Permit(claims=claims).allows(actions)


def _if_public(found: Ticket[StreamState], refusal: StreamError) -> Permit:
    """Returns the permit of anyone if a stream is public.

    Raises:
        StreamError: The refusal, also if there is no stream or it cannot be read.
        Abandoned: The store has stopped.
    """
    try:
        is_public = found.result().public
    except StreamError:
        is_public = (
            False  # the client must not learn that there is no stream, or why it cannot be read
        )
    if not is_public:
        raise refusal
    return ANYONE


def _ticket(permit: Permit | Ticket[Permit]) -> Ticket[Permit]:
    return permit if isinstance(permit, Ticket) else Ticket.of(permit)


def _token_required() -> Unauthorized:
    return Unauthorized("a token is needed here", "TOKEN_REQUIRED")
