"""The simulator's subscribers: clients that subscribe, workers that claim and acknowledge, and a courier that delivers."""

import random
from typing import Any

from durable_streams_server.errors import StreamError
from durable_streams_server.protocol.offsets import parse
from durable_streams_server.protocol.signing import Key
from durable_streams_server.protocol.subscriptions.changes import Config, Snapshot
from durable_streams_server.protocol.subscriptions.commands import (
    Acknowledge,
    Claim,
    Deliver,
    Delivered,
    Grant,
    KeepKeys,
    Link,
    Recall,
    Release,
    Subscribe,
    SubscriptionCommand,
    TakeNews,
    Tend,
    Undelivered,
    Unlink,
    Unsubscribe,
)
from durable_streams_server.protocol.subscriptions.outcomes import AckOutcome, Done, RecallOutcome
from durable_streams_server.protocol.subscriptions.state import Subscriptions
from durable_streams_server.protocol.subscriptions.steps import StepKind, next_step
from durable_streams_server.protocol.subscriptions.subscription import Subscription
from durable_streams_server.protocol.subscriptions.views import View
from durable_streams_server.storage.ticket import Abandoned, Ticket
from tests.crash.cursors import IDS
from tests.crash.world import PATHS, World

PATTERNS = ["*", "**", "a", "b*", "**/c"]
WORKERS = ["one", "two", "three"]
SECOND = 1_000_000
LEASE = 2_000  # milliseconds
#: The clients that subscribe, each with its limit of subscriptions.
OWNERS = [(None, None), ("token:one", 1), ("token:two", 2), ("jwt:three", None)]


class Workers:
    """All clients, workers and webhooks that use subscriptions.

    Args:
        world: the simulation.

    Attributes:
        sent: the acknowledgement or release that caused a record, by the LSN of the record.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._holders: dict[tuple[int, int], str] = {}  # the worker that claimed each generation
        self._views: list[View] = []  # the wakes that workers and webhooks received
        self._snapshots: dict[
            str, Snapshot
        ] = {}  # the streams that each failed delivery announced, by wake id
        self._keys = 0
        self._passes: dict[str, _Pass] = {}
        self.sent: dict[int, Acknowledge | Release] = {}

    def act(self) -> None:
        """Sends a random command."""
        chance = self._world.chance
        if self._world.max_due < len(PATHS):
            for id_ in chance.sample(IDS, chance.randint(0, 2)):
                self._recall(id_, chance.randint(1, 3))
        kind = chance.random()
        id_ = chance.choice(IDS)
        if kind < 0.2:
            self._subscribe(Subscribe(id_, self._draw_config(chance), *chance.choice(OWNERS)))
        elif kind < 0.23:
            self._execute(Unsubscribe(id_))
        elif kind < 0.28:
            self._execute(Link(id_, tuple(chance.sample(PATHS, 2))))
        elif kind < 0.32:
            self._execute(Unlink(id_, chance.choice(PATHS)))
        elif kind < 0.35:
            self._keep_keys(chance)
        elif kind < 0.4:
            self._take_news(chance)
        elif kind < 0.6:
            self._begin_wake(id_, chance.choice(WORKERS))
        elif self._views:
            self._execute(self._draw_reply(chance, chance.choice(self._views[-4:])))

    def pass_time(self) -> None:
        """Sends a `Tend` command for each subscription that is due, as the server's schedule does."""
        now, opening = self._world.now, self._subscriptions.opening
        for subscription in tuple(self._subscriptions):
            what, at = next_step(subscription.config.kind, subscription.wake, opening)
            if what is StepKind.TEND and at is not None and at <= now:
                self._execute(Tend(subscription.id))

    def begin_life(self) -> None:
        """Forgets the running passes, and the commands whose records the crash has lost."""
        self._passes.clear()
        last = self._world.store.wal.last_lsn
        for lsn in [lsn for lsn in self.sent if lsn > last]:
            del self.sent[lsn]

    def drain(self) -> None:
        """Lets time pass and workers finish until no subscription has news."""
        world = self._world
        for _ in range(100):
            world.now += 90 * SECOND
            self.pass_time()
            self._take_all_news()
            world.settle()
            for id_ in IDS:
                self._recall(id_, 2)
                world.settle()
            for subscription in tuple(self._subscriptions):
                self._finish_wake(subscription)
            if not any(each.due or each.missed for each in self._subscriptions):
                return
        raise AssertionError("there is news that nobody is ever told of")

    @property
    def _subscriptions(self) -> Subscriptions:
        return self._world.store.subscriptions

    # -- news and missed streams --------------------------------------------

    def _take_news(self, chance: random.Random) -> None:
        """Lets some subscriptions of a crowd take their news."""
        ids, last = self._subscriptions.to_take(chance.randint(1, 3))
        if (ids or last is not None) and self._execute(TakeNews(ids, last)) is None:
            self._subscriptions.feed.begin_again()

    def _take_all_news(self) -> None:
        feed = self._subscriptions.feed
        feed.begin_again()
        while len(feed):
            ids, last = self._subscriptions.to_take(10)
            if last is not None:
                feed.begin_again()
            assert self._execute(TakeNews(ids, last)) is not None

    def _recall(self, id_: str, limit: int) -> None:
        """Takes one step of a subscription's pass, which finds the streams that the subscription has missed."""
        subscription = self._subscriptions.get(id_)
        if subscription is None or not subscription.missed:
            return
        current = self._passes.get(id_)
        if current is None or current.incarnation != subscription.incarnation or current.is_over:
            if self._subscriptions.may_recall(subscription):
                current = self._passes[id_] = _Pass(subscription.incarnation)
                self._step(id_, current, Recall(id_, current.incarnation, begins=True))
        elif not current.is_asking and self._subscriptions.may_recall(subscription):
            paths = tuple(current.paths[:limit])
            ends = len(paths) == len(current.paths)
            self._step(id_, current, Recall(id_, current.incarnation, paths, ends=ends))

    def _step(self, id_: str, current: "_Pass", command: Recall) -> None:
        current.is_asking = True
        ticket = self._execute(command)
        assert ticket is not None

        def settle(done: Ticket[Any]) -> None:
            current.is_asking = False
            try:
                outcome = done.result()
            except StreamError:
                return
            except Abandoned:
                self._passes.pop(id_, None)
                return
            assert isinstance(outcome, RecallOutcome)
            del current.paths[: outcome.count]
            if command.begins:
                current.paths = list(self._world.store.paths())
            all_taken = outcome.count == len(command.paths)
            current.is_over = not outcome.missed or (command.ends and all_taken)

        self._world.watch(ticket, settle)

    # -- wakes --------------------------------------------------------------

    def _begin_wake(self, id_: str, worker: str) -> None:
        """Lets a worker claim the wake of a pull-wake subscription, or the courier deliver the wake of a webhook."""
        subscription = self._subscriptions.get(id_)
        if subscription is None or subscription.config.kind == "pull-wake":
            self._execute(Claim(id_, worker))
        elif subscription.wake is not None and subscription.wake.next_attempt is not None:
            opening = self._subscriptions.opening
            what, _ = next_step(subscription.config.kind, subscription.wake, opening)
            if what is not StepKind.DELIVER:
                self._execute(
                    Tend(id_)
                )  # renames a wake of an earlier life, as the server does before it delivers
                return
            ticket = self._execute(Deliver(_grant(subscription)))
            if ticket is not None:
                self._world.watch(ticket, self._record_view)

    def _draw_reply(self, chance: random.Random, view: View) -> SubscriptionCommand:
        """Returns a random next command of the worker or webhook that received a wake."""
        assert view.wake is not None
        now, grant = self._world.now, view.grant
        if view.config.kind == "webhook":
            kind = chance.random()
            if kind < 0.2:
                return Delivered(grant, now)
            if kind < 0.4:
                told = view.streams if chance.random() < 0.5 else None
                return Undelivered(grant, now + SECOND, "refused", told)
        elif chance.random() < 0.15:
            return Release(grant, view.generation, view.wake.wake_id)
        acks = tuple(
            (stream.path, parse(chance.choice((stream.tail, stream.tail, stream.acked))))
            for stream in view.streams
            if chance.random() < 0.7
        )
        done = chance.random() < 0.6
        return Acknowledge(grant, view.generation, view.wake.wake_id, acks, done)

    def _record_view(self, ticket: Ticket[Any]) -> None:
        try:
            view = ticket.result()
        except (StreamError, Abandoned):
            return
        if isinstance(view, View):
            assert view.wake is not None
            told = self._snapshots.get(view.wake.wake_id, view.streams)
            assert view.streams == told, "one wake id tells of two snapshots"
            self._views.append(view)

    def _record_snapshot(self, command: Undelivered, ticket: Ticket[Any]) -> None:
        """Notes which streams each retry of a wake must tell of, once the store keeps them."""
        try:
            ticket.result()
        except (StreamError, Abandoned):
            return
        assert command.snapshot is not None
        self._snapshots.setdefault(command.grant.wake_id, command.snapshot)

    def _record_claim(self, command: Claim, ticket: Ticket[Any]) -> None:
        try:
            view = ticket.result()
        except (StreamError, Abandoned):
            return
        assert isinstance(view, View)
        key = view.incarnation, view.generation
        assert key not in self._holders, "two workers hold one generation"
        self._holders[key] = command.worker
        self._views.append(view)

    def _finish_wake(self, subscription: Subscription) -> None:
        """Claims or delivers a subscription's wake, and acknowledges every stream that it announces."""
        if subscription.wake is None:
            assert not subscription.due
            return
        if subscription.config.kind == "pull-wake":
            view = self._settled(Claim(subscription.id, "last"))
        else:
            assert subscription.wake.next_attempt is not None, "a delivery that is never made"
            before = subscription.wake.wake_id
            view = self._settled(Deliver(_grant(subscription)))
            if not subscription.due:  # all news had been acknowledged before
                assert subscription.wake is None
                return
            if isinstance(view, Done):
                # A stream that the wake announced no longer exists, so another wake announces the remaining streams.
                assert subscription.wake is not None
                assert subscription.wake.wake_id != before
                return
        assert isinstance(view, View)
        assert view.wake is not None
        acks = tuple((stream.path, parse(stream.tail)) for stream in view.streams)
        outcome = self._settled(
            Acknowledge(view.grant, view.generation, view.wake.wake_id, acks, done=True)
        )
        assert isinstance(outcome, AckOutcome)

    # -- subscribing and its limit ------------------------------------------

    def _subscribe(self, command: Subscribe) -> None:
        """Sends a command that subscribes, and checks that the limit refuses it exactly if its owner has as many subscriptions already."""
        owned = [each.id for each in self._subscriptions if each.owner == command.owner]
        is_new = self._subscriptions.get(command.id) is None
        is_full = is_new and command.owner_limit is not None and len(owned) >= command.owner_limit
        wal = self._world.store.wal
        before = wal.last_lsn
        ticket = self._execute(command)
        assert ticket is not None
        if is_full:
            assert wal.last_lsn == before, "an owner has more subscriptions than its limit"
        elif ticket.done:  # otherwise the answer waits for records in flight
            assert _code_of(ticket) != "TOO_MANY_SUBSCRIPTIONS_OF_TOKEN", "the limit is too low"

    # -- configurations and keys --------------------------------------------

    def _draw_config(self, chance: random.Random) -> Config:
        is_old = chance.random() < 0.2  # an earlier version of the server stored whole paths
        streams = tuple(sorted(chance.sample(PATHS[:4], chance.randint(0, 2))))
        streams = streams if is_old else tuple(path[1:] for path in streams)
        pattern = chance.choice(PATTERNS) if not streams or chance.random() < 0.5 else None
        if chance.random() < 0.5:
            url = "https://receiver.example/hook"
            return Config("webhook", pattern, streams, url, None, LEASE, None)
        wake_stream = chance.choice(PATHS[4:])[0 if is_old else 1 :]
        return Config("pull-wake", pattern, streams, None, wake_stream, LEASE, None)

    def _keep_keys(self, chance: random.Random) -> None:
        """Replaces the signing keys with a new one and the newest of the old ones."""
        self._keys += 1
        now = self._world.now
        fresh = Key(f"ds_{self._keys}", chance.randbytes(32), chance.randbytes(32), now)
        old = self._subscriptions.keys
        self._execute(KeepKeys((fresh, *old[:1]), tuple(key.kid for key in old)))

    # -- sending ------------------------------------------------------------

    def _execute(self, command: SubscriptionCommand) -> Ticket[Any] | None:
        """Sends a command, and remembers which record an acknowledgement or release caused."""
        store = self._world.store
        before = store.wal.last_lsn
        ticket = self._world.send(command)
        if ticket is None:
            return None
        if isinstance(command, Acknowledge | Release) and store.wal.last_lsn > before:
            self.sent[store.wal.last_lsn] = command
        if isinstance(command, Claim):
            self._world.watch(ticket, lambda done: self._record_claim(command, done))
        if isinstance(command, Undelivered) and command.snapshot is not None:
            self._world.watch(ticket, lambda done: self._record_snapshot(command, done))
        return ticket

    def _settled(self, command: SubscriptionCommand) -> Any:
        """Sends a command, waits until it is durable, and returns its outcome."""
        world = self._world
        before = world.store.wal.last_lsn
        ticket = world.send(command)
        assert ticket is not None
        if isinstance(command, Acknowledge) and world.store.wal.last_lsn > before:
            self.sent[world.store.wal.last_lsn] = command
        world.settle()
        return ticket.result()


class _Pass:
    """A pass over all paths for one incarnation of a subscription.

    Attributes:
        incarnation: the incarnation of the subscription.
        paths: the paths that the pass has not reached.
        is_asking: whether the store has not answered the last step yet.
        is_over: whether the pass has ended.
    """

    def __init__(self, incarnation: int) -> None:
        self.incarnation = incarnation
        self.paths: list[str] = []
        self.is_asking = False
        self.is_over = False


def _code_of(ticket: Ticket[Any]) -> str | None:
    """Returns the code with which a command was refused, or None if it was not refused."""
    try:
        ticket.result()
    except StreamError as refusal:
        return refusal.code
    except Abandoned:
        pass
    return None


def _grant(subscription: Subscription) -> Grant:
    assert subscription.wake is not None
    wake_id = subscription.wake.wake_id
    return Grant(subscription.id, subscription.incarnation, subscription.generation, wake_id)
