"""Keeps the server's durable signing keys, and issues and checks the tokens that these keys sign.

The modules `keys` and `tokens` are imported when they are first needed, because most servers have no subscriptions and never need
them (see `dependencies.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import Unauthorized
from ..protocol.signing import Key
from ..protocol.subscriptions.commands import Grant, KeepKeys
from ..storage.store import Store
from ..storage.ticket import Ticket
from ..streams.clock import StoreClock

if TYPE_CHECKING:
    from .tokens import Holder


class Held(NamedTuple):
    """What a token carries.

    Attributes:
        grant: the wake that the token is for.
        needs_renewal: whether the server should send its holder a new token.
        holder: the client that the token was issued to.
    """

    grant: Grant
    needs_renewal: bool
    holder: Holder


class Credentials:
    """Keeps the signing keys of one store.

    Args:
        store: holds the keys.
        clock: returns steady time.
    """

    def __init__(self, store: Store, clock: StoreClock) -> None:
        self._store = store
        self._clock = clock
        self._keys: tuple[Key, ...] = ()  # the durable keys, the active key first

    def use(self, keys: tuple[Key, ...]) -> None:
        """Signs and verifies with `keys` from now on. The caller makes sure that they are durable."""
        self._keys = keys

    @property
    def active_key(self) -> Key:
        """The key that signs deliveries and tokens."""
        from .keys import active

        return active(self._keys)

    def ensure_keys(self) -> Ticket[tuple[Key, ...]]:
        """Returns a ticket for the server's durable keys. If the store has none, creates the first key."""
        if self._store.subscriptions.keys:
            # This command changes nothing, but its ticket resolves only once the present keys are durable.
            command = KeepKeys((), ())
        else:
            from .keys import generate

            command = KeepKeys((generate(self._clock()),), ())
        return self._keep(command)

    def rotate(self) -> Ticket[tuple[Key, ...]]:
        """Creates a new active key. Retired keys stay published as long as clients may hold webhooks or tokens that they signed."""
        from .keys import rotate

        old = self._store.subscriptions.keys
        return self._keep(KeepKeys(rotate(old, self._clock()), tuple(key.kid for key in old)))

    def key_set(self, keys: tuple[Key, ...]) -> dict[str, Any]:
        """Returns the public JSON Web Key Set of the given keys (PROTOCOL 6.5)."""
        from .keys import jwks

        return jwks(keys, self._clock())

    def read_token(self, id_: str, token: str) -> Held:
        """Returns what a token carries.

        Raises:
            Unauthorized: INVALID_TOKEN if the token is malformed, badly signed, or belongs to another subscription than `id_`;
                TOKEN_EXPIRED if it has expired.
        """
        from . import tokens

        now = self._clock()
        claims = tokens.read(self._keys, token, now)
        if claims.subscription_id != id_:
            raise Unauthorized("the token is not valid here")
        grant = Grant(id_, claims.incarnation, claims.generation, claims.wake_id)
        return Held(grant, tokens.needs_renewal(claims, now), claims.holder)

    def holder(self, client: str, until: int | None) -> Holder:
        """Returns the holder of a claim.

        Args:
            client: the subject of the client's own token, if that token can be revoked, or "".
            until: the wall-clock time at which the client's own token expires, in microseconds, or None.
        """
        from .tokens import Holder

        now = self._clock()
        return Holder(client, None if until is None else until - self._clock.wall() + now)

    def issue_token(self, grant: Grant, holder: Holder | None = None) -> str:
        """Returns a new token that carries `grant`.

        Args:
            grant: the wake that the token is for.
            holder: the client that the token is for, or None if it depends on no token of a client.
        """
        from . import tokens

        now = self._clock()
        return tokens.issue(
            self.active_key,
            grant.id,
            grant.incarnation,
            grant.generation,
            grant.wake_id,
            now,
            self._clock.wall() - now,
            holder or tokens.ANYBODY,
        )

    def _keep(self, command: KeepKeys) -> Ticket[tuple[Key, ...]]:
        outcome: Ticket[Any] = self._store.execute(command, self._clock())
        return outcome.then(lambda kept: Ticket.of(kept.keys))
