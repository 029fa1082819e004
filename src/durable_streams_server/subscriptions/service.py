"""The running part of subscriptions: what HTTP asks for, what the clock brings, and deliveries.

Everything it does to a subscription is a command of the store's, and so durable before anybody is told. What is to be done
when follows from the store's own states: after a restart the schedule is made from them again.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

import msgspec

from ..errors import BadRequest, NotFound, StreamError, Unauthorized, Unavailable
from ..protocol import paths
from ..protocol.ancestry import locate
from ..protocol.decide import require_visible
from ..protocol.limits import RETRY_SOON
from ..protocol.names import RESERVED_SEGMENT
from ..protocol.offsets import Offset
from ..protocol.signing import Key
from ..protocol.state import StreamState
from ..protocol.subscriptions.changes import (
    CursorsMoved,
    KeysKept,
    LinkedStream,
    Missed,
    News,
    Subscribed,
    SubscriptionType,
    Unsubscribed,
    Wake,
    WakeChanged,
)
from ..protocol.subscriptions.commands import (
    Acknowledge,
    Claim,
    Deliver,
    Grant,
    KeepKeys,
    Look,
    Subscribe,
    SubscriptionCommand,
    Tend,
)
from ..protocol.subscriptions.decide import (
    AckOutcome,
    KeysOutcome,
    SubscribeOutcome,
    is_stale,
)
from ..protocol.subscriptions.steps import Step, What, next_step
from ..protocol.subscriptions.views import MAX_LISTED, View
from ..protocol.units import SECOND
from ..storage.store import Published, new_opening
from ..storage.ticket import Abandoned, Ticket
from ..streams.engine import Engine
from . import parts
from .channels import Channels
from .crowd import Crowd
from .listing import Listing
from .loading import FEW, in_slices, load
from .recall import Recalls
from .schedule import Schedule

if TYPE_CHECKING:
    from .addresses import WebhookPolicy
    from .client import WebhookClient
    from .delivery import Deliveries

T = TypeVar("T")

# A scheme, a host without a user before it, perhaps a port, and a path of characters that a URL may hold (RFC 3986).
_PUBLIC_URL: Final = re.compile(
    r"(?i:https?)://(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~:@!$&'()*+,;=%/-]*)?"
)
_SOON: Final = SECOND  # until something that could not be done is tried again
_PIECE: Final = 0.0004  # seconds of the loop that one piece of an exchange with a receiver takes
_ACKS_AT_ONCE: Final = (
    250  # that one record takes; more of one request are taken in several, in turns
)


class Service:
    """The subscriptions of one engine.

    Args:
        engine: whose streams they are of.
        public_url: the address under which clients reach the server, for URLs that outlive a request; None until it is known.
        policy: where webhooks may go; None allows what is public.
    """

    def __init__(
        self, engine: Engine, public_url: str | None = None, policy: WebhookPolicy | None = None
    ) -> None:
        self._engine = engine
        self._store = engine.store
        self.public_url = public_url
        self.policy = policy
        self.clock = engine.clock
        self.turns = engine.turns
        self.schedule = Schedule(engine.clock, self._act, engine.turns)
        self._crowd = Crowd(engine.store, engine.clock, engine.turns)
        self._recalls = Recalls(engine.store, engine.clock, engine.turns)
        self._channels = Channels(engine.store.subscriptions)
        self._client: WebhookClient | None = None
        self._deliveries: Deliveries | None = None
        self._ssl: ssl.SSLContext | None = None  # once everything is loaded that subscriptions need
        self._keys: tuple[Key, ...] = ()  # those that are durable
        self._store.listen(self._published)

    # -- life ---------------------------------------------------------------

    def start(self) -> None:
        """Takes up what was scheduled before; called once the engine has started, on its loop."""
        self._keys = self._store.subscriptions.keys
        self._store.subscriptions.opening = new_opening()  # a store may be served a second time
        if len(self._store.subscriptions):
            self._ssl = parts.load()
        now = self.clock()
        for subscription in self._store.subscriptions:
            if subscription.wake is None and subscription.due:
                self.schedule.set(subscription.id, now)  # as when its only news was damaged
            else:
                self.plan(subscription.id)
        self.schedule.start(asyncio.get_running_loop())
        self._crowd.start()
        self._recalls.start()

    def begin_shutdown(self) -> None:
        """Begins nothing more."""
        self.schedule.stop()
        self._crowd.stop()
        self._recalls.stop()

    async def stop(self) -> None:
        """Breaks off deliveries; they are tried again after the next start."""
        self.begin_shutdown()
        if self._deliveries is not None:
            await self._deliveries.stop()
        if self._client is not None:
            await self._client.aclose()

    def retire(self) -> None:
        """Hears no more of the store, whose loop has ended."""
        self._store.ignore(self._published)

    # -- what clients ask for -----------------------------------------------

    def subscribe(self, command: Subscribe) -> Ticket[SubscribeOutcome]:
        """Creates a subscription, or confirms the one that is there.

        Raises:
            BadRequest: WEBHOOK_URL_REJECTED; PUBLIC_URL_UNKNOWN when nobody has said where callbacks would reach the server.
        """
        url = command.config.webhook_url
        if url is None:
            return self._loaded().then(lambda _: self.run(command))
        if self.public_url is None:
            raise BadRequest(
                "webhooks need the server's public URL, which is not set", "PUBLIC_URL_UNKNOWN"
            )
        return (
            self._loaded()
            .then(lambda _: _ticket_of(self.client.resolve_and_check(url)))
            .then(self._go_on)
            .then(lambda _: self.keys())
            .then(lambda _: self.run(command))
        )

    def _loaded(self) -> Ticket[None]:
        """Returns a ticket that resolves when everything is there that subscriptions need."""
        if self._ssl is not None:
            return Ticket.of(None)

        async def load() -> None:
            self._ssl = await asyncio.to_thread(parts.load)

        return _ticket_of(load()).then(self._go_on)

    def _go_on(self, _: None) -> Ticket[None]:
        """The store may have been given back while a name was looked up."""
        if self._engine.stopping:
            raise Unavailable("the server is stopping", "SERVER_STOPPING", retry_after=RETRY_SOON)
        return Ticket.of(None)

    def view(self, id_: str) -> Ticket[tuple[View, list[LinkedStream], bool]]:
        """Returns a subscription with its links, and whether there are more than are listed."""

        def with_links(view: View) -> Ticket[tuple[View, list[LinkedStream], bool]]:
            return Listing(self._store, view, self._engine.turns).ticket.then(
                lambda found: Ticket.of((view, found[0], found[1]))
            )

        looked: Ticket[View] = self._load(id_).then(lambda _: self.run(Look(id_)))
        return looked.then(with_links)

    def claim(self, command: Claim) -> Ticket[View]:
        """Gives the wake in flight to a worker (PROTOCOL 7.2).

        Raises:
            NotFound, BadRequest, AlreadyClaimed, Conflict: as the rules have it.
        """
        return self.keys().then(lambda _: self._load(command.id)).then(lambda _: self.run(command))

    def acknowledge(self, command: Acknowledge) -> Ticket[AckOutcome]:
        """Acknowledges offsets, each of which must be one that a read can begin at.

        Raises:
            BadRequest: INVALID_OFFSET for one past the tail, or inside an append or a JSON value.
            Fenced: the wake is over, whatever the offsets are (PROTOCOL 7.2).
        """
        if is_stale(self._store.subscriptions, command, self.clock()):
            return self.run(command)
        checked: Ticket[None] = in_slices(
            self.turns, command.acks, lambda ack: self._check_offset(*ack)
        )
        return checked.then(lambda _: self._acknowledge(command))

    def _acknowledge(self, command: Acknowledge) -> Ticket[AckOutcome]:
        """Has the store take acks, no more in one record than the loop has time for."""
        acks = command.acks
        if len(acks) <= _ACKS_AT_ONCE:
            return self.run(command)
        parts = [
            msgspec.structs.replace(command, acks=acks[at : at + _ACKS_AT_ONCE], done=False)
            for at in range(0, len(acks), _ACKS_AT_ONCE)
        ]
        last = msgspec.structs.replace(parts.pop(), done=command.done)

        def take(part: Acknowledge) -> Ticket[object]:
            return self.turns.ticket().then(lambda _: self.run(part))

        return in_slices(self.turns, parts, take).then(lambda _: self.run(last))

    def keys(self) -> Ticket[tuple[Key, ...]]:
        """Returns the server's keys, making the first one if there is none."""
        if self._store.subscriptions.keys:
            command = KeepKeys(
                (), ()
            )  # which changes nothing, and waits for keys that are in flight
        else:
            from .keys import generate

            command = KeepKeys((generate(self.clock()),), ())
        outcome: Ticket[KeysOutcome] = self.run(command)
        return outcome.then(lambda kept: Ticket.of(kept.keys))

    def jwks(self) -> Ticket[dict[str, Any]]:
        """Returns the public keys (PROTOCOL 6.5)."""

        def render(kept: tuple[Key, ...]) -> Ticket[dict[str, Any]]:
            from .keys import jwks

            return Ticket.of(jwks(kept, self.clock()))

        return self._loaded().then(lambda _: self.keys()).then(render)

    def signing(self) -> dict[str, str] | None:
        """Returns how deliveries are signed (PROTOCOL 6.3), if the server's public URL is known."""
        if self.public_url is None:
            return None
        return {
            "alg": "ed25519",
            "kid": self.active_key.kid,
            "jwks_url": self.control_url("jwks.json"),
        }

    def grant(self, id_: str, token: str) -> tuple[Grant, bool]:
        """Returns what a token allows, and whether its owner should get a new one.

        Raises:
            Unauthorized: INVALID_TOKEN, also for a token of another subscription; TOKEN_EXPIRED.
        """
        from . import tokens

        now = self.clock()
        claims = tokens.read(self._keys, token, now)
        if claims.subscription_id != id_:
            raise Unauthorized("the token is not valid here")
        grant = Grant(id_, claims.incarnation, claims.generation, claims.wake_id)
        return grant, tokens.needs_renewal(claims, now)

    def token(self, grant: Grant) -> str:
        """Returns a new token."""
        from . import tokens

        now = self.clock()
        return tokens.issue(
            self.active_key,
            grant.id,
            grant.incarnation,
            grant.generation,
            grant.wake_id,
            now,
            self.clock.wall() - now,
        )

    def rotate_keys(self) -> Ticket[tuple[Key, ...]]:
        """Makes a new key the active one; the old ones stay published while what they signed can be accepted."""
        from .keys import rotate

        old = self._store.subscriptions.keys
        command = KeepKeys(rotate(old, self.clock()), tuple(key.kid for key in old))
        outcome: Ticket[KeysOutcome] = self.run(command)
        return outcome.then(lambda kept: Ticket.of(kept.keys))

    def run(self, command: SubscriptionCommand) -> Ticket[Any]:
        """Has the store decide a command now."""
        return self._store.execute(command, self.clock())

    # -- what deliveries need -----------------------------------------------

    async def execute(self, command: SubscriptionCommand) -> Any:
        """As `run`, and waits for the outcome."""
        return await _future_of(self.run(command))

    async def begin_delivery(self, grant: Grant) -> View | None:
        """Returns what a delivery of a wake is to tell; None if it is not to be delivered now."""
        await _future_of(self._load(grant.id))
        outcome = await self.execute(Deliver(grant))
        return outcome if isinstance(outcome, View) else None

    def plan(self, id_: str) -> None:
        """Notes when something is next to be done about a subscription, if anything is."""
        subscription = self._store.subscriptions.get(id_)
        if subscription is None:
            self.schedule.set(id_, None)
        else:
            self.schedule.set(id_, self._step(subscription.config.kind, subscription.wake).at)

    def _step(self, kind: SubscriptionType, wake: Wake | None) -> Step:
        return next_step(kind, wake, self._store.subscriptions.opening)

    def try_again(self, id_: str) -> None:
        """Has a subscription looked at again soon, after an attempt that could not proceed."""
        self.schedule.set(id_, self.clock() + _SOON)

    @property
    def active_key(self) -> Key:
        """The key to sign with."""
        from .keys import active

        return active(self._keys)

    @property
    def client(self) -> WebhookClient:
        """What sends deliveries; made with the first webhook, since most servers have none."""
        if self._client is None:
            from .addresses import WebhookPolicy
            from .client import WebhookClient

            policy = self.policy or WebhookPolicy()
            self._client = WebhookClient(policy, ssl_context=self._ssl, turn=self._turn)
        return self._client

    async def _turn(self) -> None:
        """Returns when a delivery may go on with its exchange."""
        await self.turns.wait_turn(cost=_PIECE)

    def relative(self, path: str) -> str:
        """Returns a path as clients write it: below the stream root."""
        return self._store.subscriptions.relative(path)

    def url_of(self, id_: str, action: str) -> str:
        """Returns the public URL of something that can be done to a subscription."""
        return self.control_url(f"subscriptions/{paths.encode_url_path(id_)}/{action}")

    def control_url(self, below: str) -> str:
        """Returns the public URL of something below `__ds`."""
        root = paths.encode_url_path(self._store.subscriptions.root)
        return f"{self.public_url}{root}/{RESERVED_SEGMENT}/{below}"

    # -- inside -------------------------------------------------------------

    def _published(self, published: Sequence[Published]) -> None:
        is_about_wakes = False
        for item in published:
            if item.state is not None:
                continue
            change = item.change
            if isinstance(change, WakeChanged):
                is_about_wakes = True
                self.plan(change.id)
                self._heartbeat(change)
            elif isinstance(change, Subscribed | Unsubscribed):
                is_about_wakes = True
                self.plan(change.id)
                self._recalls.look(change.id)
            elif isinstance(change, News):
                self._crowd.begin()
            elif isinstance(change, CursorsMoved | Missed):
                self._recalls.look(change.id)
            elif isinstance(change, KeysKept):
                self._keys = change.keys
        if is_about_wakes:
            self._channels.see(published)

    def _heartbeat(self, change: WakeChanged) -> None:
        """Gives a receiver that is still at its answer the time of a lease that was prolonged."""
        wake = change.wake
        if self._deliveries is not None and wake is not None and wake.lease_until is not None:
            left = (wake.lease_until - self.clock()) / SECOND
            self._deliveries.extend(wake.wake_id, left)

    def _act(self, id_: str) -> None:
        """The time of a subscription has come: does what that brings, and plans what comes next."""
        subscription = self._store.subscriptions.get(id_)
        if subscription is None:
            return
        what, at = self._step(subscription.config.kind, subscription.wake)
        if what is What.DELIVER and at is not None and at <= self.clock():
            self._deliver(id_)
        else:
            self._tend(id_)

    def _tend(self, id_: str) -> None:
        def go_on(tended: Ticket[View]) -> None:
            try:
                view = tended.result()
            except (NotFound, Abandoned):
                return  # it is gone, or the store is
            except StreamError:  # the store has no room now
                self.try_again(id_)
                return
            self.schedule.set(id_, self._step(view.config.kind, view.wake).at)

        tended: Ticket[View] = self.run(Tend(id_))
        tended.add_callback(go_on)

    def _deliver(self, id_: str) -> None:
        subscription = self._store.subscriptions.get(id_)
        if self._engine.stopping or subscription is None or subscription.wake is None:
            return
        if self._deliveries is None:
            from .delivery import Deliveries

            self._deliveries = Deliveries(self)
        url = subscription.config.webhook_url
        assert url is not None
        wake_id = subscription.wake.wake_id
        grant = Grant(id_, subscription.incarnation, subscription.generation, wake_id)
        self._deliveries.begin(grant, url)

    def _load(self, id_: str) -> Ticket[None]:
        """Brings the streams into memory that a decision about a subscription looks at."""
        subscription = self._store.subscriptions.get(id_)
        if subscription is None or len(subscription.due) + len(subscription.streams) <= FEW:
            return Ticket.of(None)
        paths = list(islice(chain(subscription.due, subscription.streams), 2 * MAX_LISTED))
        return load(self._store, self.turns, paths)

    def _check_offset(self, path: str, offset: Offset) -> Ticket[int]:
        """Checks one. Streams that are gone are passed over, as the rules do."""

        def check(state: StreamState | None) -> Ticket[int]:
            try:
                alive = require_visible(state, self.clock())
                position = locate(offset, alive.incarnation, alive.ancestry, alive.visible_tail)
            except BadRequest:
                raise
            except StreamError:
                return Ticket.of(0)
            return self._engine.reader.check(alive, position).then(lambda at: exact(position, at))

        def exact(position: int, begin: int) -> Ticket[int]:
            if (
                begin != position
            ):  # an ack says what has been read, and nobody has read one byte of an append
                raise BadRequest("the offset is inside an append", "INVALID_OFFSET")
            return Ticket.of(position)

        return self._store.find(path).then(check)


def check_public_url(url: str) -> str:
    """Returns a public URL without a trailing slash.

    Raises:
        ValueError: when it is no absolute http or https URL, or has a user, a query or a fragment.
    """
    if _PUBLIC_URL.fullmatch(url) is None or not _has_port_in_range(url):
        raise ValueError("the public URL is not a URL such as https://streams.example.com")
    return url.rstrip("/")


def _has_port_in_range(url: str) -> bool:
    try:
        return urlsplit(url).port != 0
    except ValueError:
        return False


def _ticket_of(awaitable: Any) -> Ticket[None]:
    """Runs a coroutine as a task, and gives its end as a ticket."""
    ticket: Ticket[None] = Ticket()
    task = asyncio.ensure_future(awaitable)
    ticket.on_cancel(lambda: task.cancel())

    def done(finished: asyncio.Future[Any]) -> None:
        if finished.cancelled():
            ticket.cancel()
        elif (error := finished.exception()) is not None:
            ticket.fail(error)
        else:
            ticket.resolve(None)

    task.add_done_callback(done)
    return ticket


async def _future_of(ticket: Ticket[T]) -> T:
    """Waits for a ticket."""
    if not ticket.done:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()

        def wake(_: Ticket[T]) -> None:
            if not future.done():
                future.set_result(None)

        ticket.add_callback(wake)
        await future
    return ticket.result()


__all__ = ["Service", "check_public_url"]
