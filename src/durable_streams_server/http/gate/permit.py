"""`Permit`: what the gate found out about a request that it admits."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from ...errors import Forbidden
from ...protocol.permissions import (
    NO_LIMITS,
    Claims,
    TokenLimits,
    Verb,
    allows,
    allows_pattern,
)
from ...streams.term import Term


class Permit(msgspec.Struct, frozen=True):
    """What the gate found out about an admitted request. The routes need it to answer the request.

    Attributes:
        client: The subject of the client's token, under which its limits are counted, or None for a client without a token.
        until: When the token expires and a live read must end, in microseconds since 1970, or None.
        limits: The limits of the client's token, in place of the server's.
        claims: What the client's token allows, or None if the server has no access control.
        still_holds: Returns whether the token would still be accepted, or None if no token was needed. A live read calls it again and again.
        generation: The generation of the tokens for which the permit was decided. `ONCE` for a permit that must be decided for each request.
    """

    client: str | None = None
    until: int | None = None
    limits: TokenLimits = NO_LIMITS
    claims: Claims | None = None
    still_holds: Callable[[], bool] | None = None
    generation: int = 0

    def term(self, until: int | None) -> Term | None:
        """Returns how long a live read may last, or None if it may last as long as any.

        Args:
            until: When the live read must end even if the token is valid longer, in microseconds since 1970, or None.
        """
        ends = [each for each in (self.until, until) if each is not None]
        if not ends and self.still_holds is None:
            return None
        return Term(min(ends, default=None), self.still_holds)

    def is_current(self, generation: int, now: int) -> bool:
        """Returns whether the permit is also the one of a later request with the same head.

        Args:
            generation: The present generation of the tokens.
            now: Microseconds since 1970.
        """
        return self.generation == generation and (self.until is None or now < self.until)

    def may(self, verb: Verb, path: str) -> bool:
        """Returns whether the client may use a verb on a decoded path."""
        return self.claims is None or allows(self.claims, verb, path)

    def may_all(self, verb: Verb, pattern: str) -> bool:
        """Returns whether the client may use a verb on every path that a pattern with a leading slash can match."""
        return self.claims is None or allows_pattern(self.claims, verb, pattern)

    def allows(self, actions: Iterable[tuple[Verb, str]]) -> bool:
        """Returns whether the client may begin a request with these actions.

        The paths of control routes stand for subscriptions, whose streams are not known from the head of a request. So `subscribe` on
        any stream is enough to begin, and the routes check it on the streams of the subscription.
        """
        claims = self.claims
        if claims is None:
            return True
        return all(
            allows(claims, verb, path)
            if verb != "subscribe"
            else any(verb in grant.verbs for grant in claims.grants)
            for verb, path in actions
        )


def not_allowed() -> Forbidden:
    """Returns the refusal of a client whose token does not allow its request. It does not say whether a stream exists."""
    return Forbidden("the token does not allow this here")


#: The generation of a permit that depends on more than the head of its request.
ONCE: Final = -1
#: The permit of a request to a server without access control.
OPEN: Final = Permit()
#: The permit of a request that needs no token on a server with access control. It allows nothing else.
ANYONE: Final = Permit(claims=Claims("", ()), generation=ONCE)
