"""Runs subscriptions: executes the commands of clients, delivers wakes, and ends leases that have expired.

Every change of a subscription is a command to the store, so the change is durable before the server reports it. After a restart, the
service rebuilds its schedule from the subscriptions in the store.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final

from ..errors import BadRequest, NotFound, StreamError, Unavailable
from ..protocol import paths
from ..protocol.limits import RETRY_SOON
from ..protocol.names import RESERVED_SEGMENT
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
    Inspect,
    Subscribe,
    SubscriptionCommand,
    Tend,
)
from ..protocol.subscriptions.outcomes import AckOutcome, SubscribeOutcome
from ..protocol.subscriptions.owners import check_room
from ..protocol.subscriptions.steps import Step, StepKind, next_step
from ..protocol.subscriptions.subscription import Subscription
from ..protocol.subscriptions.views import MAX_LISTED, View
from ..protocol.units import SECOND
from ..storage.store import Published, new_opening
from ..storage.ticket import Abandoned, Ticket
from ..streams.engine import Engine
from .acknowledging import Acknowledger
from .counts import DeliveryCounts
from .credentials import Credentials
from .crowd import NewsDistributor
from .dependencies import load_dependencies
from .listing import Listing
from .loading import FEW, load
from .recall import Recalls
from .schedule import Schedule
from .tickets import ticket_for, wait_for
from .wake_streams import WakeStreamMonitor

if TYPE_CHECKING:
    from .addresses import WebhookPolicy
    from .client import WebhookClient
    from .delivery import Deliveries

#: Microseconds until the service retries a step after the store had no room for it.
_RETRY_AFTER: Final = SECOND
#: Seconds that the event loop needs for one part of an exchange with a receiver.
_EXCHANGE_COST: Final = 0.0004


class Service:
    """Runs the subscriptions of one engine.

    Args:
        engine: the engine whose streams the subscriptions watch.
        public_url: the URL under which clients reach the server. The server puts it into callback URLs. None while it is unknown.
        policy: decides which webhook URLs are allowed. None allows all public addresses.

    Attributes:
        credentials: the signing keys, and the tokens that they sign.
        schedule: the times at which subscriptions are due.
        counts: how deliveries have ended.
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
        self.credentials = Credentials(engine.store, engine.clock)
        self.schedule = Schedule(engine.clock, self._run_next_step, engine.turns)
        self.counts = DeliveryCounts()
        self._acknowledger = Acknowledger(engine)
        self._distributor = NewsDistributor(engine.store, engine.clock, engine.turns)
        self._recalls = Recalls(engine.store, engine.clock, engine.turns)
        self._wake_streams = WakeStreamMonitor(engine.store.subscriptions)
        self._client: WebhookClient | None = None
        self._deliveries: Deliveries | None = None
        self._ssl: ssl.SSLContext | None = None  # None until the dependencies are loaded
        self._store.listen(self._published)

    # -- start and stop -----------------------------------------------------

    def start(self) -> None:
        """Schedules the next step of every subscription. Call it on the engine's loop, after the engine has started."""
        self.credentials.use(self._store.subscriptions.keys)
        # The store may have been served before, and wake ids of that opening must not be used again.
        self._store.subscriptions.opening = new_opening()
        if len(self._store.subscriptions):
            self._ssl = load_dependencies()
        now = self.clock()
        for subscription in self._store.subscriptions:
            if subscription.wake is None and subscription.due:
                # There is news without a wake, for example because the stream with the news was damaged.
                self.schedule.set(subscription.id, now)
            else:
                self.schedule_next_step(subscription.id)
        self.schedule.start(asyncio.get_running_loop())
        self._distributor.start()
        self._recalls.start()

    def begin_shutdown(self) -> None:
        """Starts no new work from now on. Deliveries that are running continue until `stop`."""
        self.schedule.stop()
        self._distributor.stop()
        self._recalls.stop()

    async def stop(self) -> None:
        """Cancels the running deliveries and closes the webhook client. The next start retries the deliveries."""
        self.begin_shutdown()
        if self._deliveries is not None:
            await self._deliveries.stop()
        if self._client is not None:
            await self._client.aclose()

    def retire(self) -> None:
        """Stops listening to the store, because the event loop of this service has ended."""
        self._store.ignore(self._published)

    @property
    def deliveries_running(self) -> int:
        """The number of deliveries that are running."""
        return len(self._deliveries) if self._deliveries is not None else 0

    @property
    def deliveries_waiting(self) -> int:
        """The number of deliveries that wait for a slot."""
        return self._deliveries.waiting if self._deliveries is not None else 0

    # -- commands of clients ------------------------------------------------

    def subscribe(self, command: Subscribe) -> Ticket[SubscribeOutcome]:
        """Creates a subscription, or confirms an existing one with the same configuration.

        Raises:
            BadRequest: WEBHOOK_URL_REJECTED if webhooks may not go to the URL; PUBLIC_URL_UNKNOWN if the subscription has a webhook
                and the server does not know its public URL.
            TooManyRequests: TOO_MANY_SUBSCRIPTIONS_OF_TOKEN or TOO_MANY_SUBSCRIPTIONS.
        """
        # The store checks this again. It is checked here too, so that a client at its limit causes no lookup of a name.
        check_room(self._store.subscriptions, command)
        url = command.config.webhook_url
        if url is None:
            return self._load_dependencies().then(lambda _: self.run(command))
        if self.public_url is None:
            raise BadRequest(
                "webhooks need the server's public URL, which is not set", "PUBLIC_URL_UNKNOWN"
            )
        return (
            self._load_dependencies()
            .then(lambda _: ticket_for(self.client.resolve_and_check(url)))
            .then(self._refuse_if_stopping)
            .then(lambda _: self.credentials.ensure_keys())
            .then(lambda _: self.run(command))
        )

    def _load_dependencies(self) -> Ticket[None]:
        """Returns a ticket that resolves once the modules that subscriptions need are imported."""
        if self._ssl is not None:
            return Ticket.of(None)

        async def load() -> None:
            self._ssl = await asyncio.to_thread(load_dependencies)

        return ticket_for(load()).then(self._refuse_if_stopping)

    def _refuse_if_stopping(self, _: None) -> Ticket[None]:
        """Raises an error if the server is stopping, because the store may have been closed while a task ran."""
        if self._engine.stopping:
            raise Unavailable("the server is stopping", "SERVER_STOPPING", retry_after=RETRY_SOON)
        return Ticket.of(None)

    def find(self, id_: str) -> Subscription | None:
        """Returns a subscription, or None if there is none with this id. The caller must not change it."""
        return self._store.subscriptions.get(id_)

    def view(self, id_: str) -> Ticket[tuple[View, list[LinkedStream], bool]]:
        """Returns a ticket for a subscription, its linked streams, and whether the list of streams is truncated."""

        def with_links(view: View) -> Ticket[tuple[View, list[LinkedStream], bool]]:
            return Listing(self._store, view, self._engine.turns).ticket.then(
                lambda found: Ticket.of((view, found[0], found[1]))
            )

        looked: Ticket[View] = self._load_streams(id_).then(lambda _: self.run(Inspect(id_)))
        return looked.then(with_links)

    def claim(self, command: Claim) -> Ticket[View]:
        """Gives the wake in flight to a worker (PROTOCOL 7.2).

        Raises:
            NotFound: there is no such subscription.
            BadRequest: the subscription is not a pull-wake subscription.
            AlreadyClaimed: another worker holds the wake.
            Conflict: there is nothing to claim.
        """
        return (
            self.credentials.ensure_keys()
            .then(lambda _: self._load_streams(command.id))
            .then(lambda _: self.run(command))
        )

    def acknowledge(self, command: Acknowledge) -> Ticket[AckOutcome]:
        """Moves the cursors that `command` names, if a read can begin at each acknowledged offset.

        Raises:
            BadRequest: INVALID_OFFSET for an offset past the tail, or inside an append or a JSON value.
            Fenced: the wake is over.
        """
        return self._acknowledger.acknowledge(command)

    def jwks(self) -> Ticket[dict[str, Any]]:
        """Returns a ticket for the public JSON Web Key Set (PROTOCOL 6.5)."""
        return (
            self._load_dependencies()
            .then(lambda _: self.credentials.ensure_keys())
            .then(lambda keys: Ticket.of(self.credentials.key_set(keys)))
        )

    def signing(self) -> dict[str, str] | None:
        """Returns the algorithm and key that sign deliveries (PROTOCOL 6.3), or None if the public URL is unknown."""
        if self.public_url is None:
            return None
        return {
            "alg": "ed25519",
            "kid": self.credentials.active_key.kid,
            "jwks_url": self._control_url("jwks.json"),
        }

    def run(self, command: SubscriptionCommand) -> Ticket[Any]:
        """Executes a command in the store at the present time."""
        return self._store.execute(command, self.clock())

    # -- the interface that deliveries use (`delivery.DeliveryContext`) ------

    async def run_and_wait(self, command: SubscriptionCommand) -> Any:
        """Executes a command in the store, and returns its outcome once it is durable."""
        return await wait_for(self.run(command))

    async def begin_delivery(self, grant: Grant) -> View | None:
        """Returns the subscription and the streams to list in a delivery, or None if the wake must not be delivered now."""
        await wait_for(self._load_streams(grant.id))
        outcome = await self.run_and_wait(Deliver(grant))
        return outcome if isinstance(outcome, View) else None

    def schedule_next_step(self, id_: str) -> None:
        """Schedules the next step of a subscription, or removes the subscription from the schedule if it needs none."""
        subscription = self._store.subscriptions.get(id_)
        if subscription is None:
            self.schedule.set(id_, None)
        else:
            self.schedule.set(id_, self._next_step(subscription.config.kind, subscription.wake).at)

    @property
    def client(self) -> WebhookClient:
        """The client that sends deliveries. It is created with the first webhook, because most servers have none."""
        if self._client is None:
            from .addresses import WebhookPolicy
            from .client import WebhookClient

            policy = self.policy or WebhookPolicy()
            self._client = WebhookClient(policy, ssl_context=self._ssl, turn=self._exchange_turn)
        return self._client

    async def _exchange_turn(self) -> None:
        """Waits until a delivery may use the event loop for the next part of its exchange."""
        await self.turns.wait_turn(cost=_EXCHANGE_COST)

    def relative(self, path: str) -> str:
        """Returns a stream path relative to the stream root, as clients write it."""
        return self._store.subscriptions.relative(path)

    def url_of(self, id_: str, action: str) -> str:
        """Returns the public URL of an action on a subscription, such as `callback`."""
        return self._control_url(f"subscriptions/{paths.encode_url_path(id_)}/{action}")

    def _control_url(self, below: str) -> str:
        """Returns the public URL of a path below `__ds`."""
        root = paths.encode_url_path(self._store.subscriptions.root)
        return f"{self.public_url}{root}/{RESERVED_SEGMENT}/{below}"

    # -- internal -----------------------------------------------------------

    def _published(self, published: Sequence[Published]) -> None:
        """Reacts to durable changes of subscriptions. The store calls this function with every batch of records."""
        is_about_wakes = False
        for item in published:
            if item.state is not None:
                continue
            change = item.change
            if isinstance(change, WakeChanged):
                is_about_wakes = True
                self.schedule_next_step(change.id)
                self._extend_delivery(change)
            elif isinstance(change, Subscribed | Unsubscribed):
                is_about_wakes = True
                self.schedule_next_step(change.id)
                self._recalls.advance(change.id)
            elif isinstance(change, News):
                self._distributor.begin()
            elif isinstance(change, CursorsMoved | Missed):
                self._recalls.advance(change.id)
            elif isinstance(change, KeysKept):
                self.credentials.use(change.keys)
        if is_about_wakes:
            self._wake_streams.observe(published)

    def _extend_delivery(self, change: WakeChanged) -> None:
        """Extends the deadline of a running delivery after a heartbeat has renewed its lease."""
        wake = change.wake
        if self._deliveries is not None and wake is not None and wake.lease_until is not None:
            left = (wake.lease_until - self.clock()) / SECOND
            self._deliveries.extend(wake.wake_id, left)

    def _next_step(self, kind: SubscriptionType, wake: Wake | None) -> Step:
        return next_step(kind, wake, self._store.subscriptions.opening)

    def _run_next_step(self, id_: str) -> None:
        """Runs the due step of a subscription, which is a delivery or a `Tend` command. The schedule calls this function."""
        subscription = self._store.subscriptions.get(id_)
        if subscription is None:
            return
        what, at = self._next_step(subscription.config.kind, subscription.wake)
        if what is StepKind.DELIVER and at is not None and at <= self.clock():
            self._deliver(id_)
        else:
            self._tend(id_)

    def _tend(self, id_: str) -> None:
        """Executes `Tend` for a subscription, and schedules its next step."""

        def schedule(tended: Ticket[View]) -> None:
            try:
                view = tended.result()
            except (NotFound, Abandoned):
                return  # the subscription was deleted, or the store has stopped
            except StreamError:  # the store has no room now
                self.schedule.set(id_, self.clock() + _RETRY_AFTER)
                return
            self.schedule.set(id_, self._next_step(view.config.kind, view.wake).at)

        tended: Ticket[View] = self.run(Tend(id_))
        tended.add_callback(schedule)

    def _deliver(self, id_: str) -> None:
        """Begins the delivery of a subscription's wake, unless the server is stopping."""
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

    def _load_streams(self, id_: str) -> Ticket[None]:
        """Loads the streams of a subscription before a decision. Returns a ticket that resolves when the streams are in memory."""
        subscription = self._store.subscriptions.get(id_)
        if subscription is None or len(subscription.due) + len(subscription.streams) <= FEW:
            return Ticket.of(None)
        paths = list(islice(chain(subscription.due, subscription.streams), 2 * MAX_LISTED))
        return load(self._store, self.turns, paths)
