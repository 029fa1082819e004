"""The simulator's subscribers: clients that subscribe, workers that claim and acknowledge, a courier that delivers.

The oracle here knows cursors of its own. One begins at the tail when a stream is linked, moves by what a worker has
acknowledged in a record that became durable, and by nothing else. What the store says must follow from them: which streams
have news, that a subscription with news has a wake in flight, and that nobody ever shares a generation.

Some seeds give each subscription room for a few cursors only. Then a stream with news may have none while the subscription says that
it has missed streams, if the pass would find it; and it may be told of again from its beginning. When all is done, none is missed.
"""

import random
from typing import TYPE_CHECKING, Any

from durable_streams_server.errors import StreamError
from durable_streams_server.protocol.offsets import Offset, parse
from durable_streams_server.protocol.signing import Key
from durable_streams_server.protocol.state import Change, StreamState
from durable_streams_server.protocol.subscriptions.changes import (
    Config,
    Relinked,
    Snapshot,
    Subscribed,
    WakeChanged,
)
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
from durable_streams_server.protocol.subscriptions.draft import Draft
from durable_streams_server.protocol.subscriptions.outcomes import AckOutcome, Done, RecallOutcome
from durable_streams_server.protocol.subscriptions.state import Subscriptions
from durable_streams_server.protocol.subscriptions.steps import What, next_step
from durable_streams_server.protocol.subscriptions.subscription import Subscription
from durable_streams_server.protocol.subscriptions.views import View
from durable_streams_server.storage.ticket import Abandoned, Ticket

if TYPE_CHECKING:
    from tests.crash.simulator import Simulation

IDS = ["s", "t", "u"]
PATTERNS = ["*", "**", "a", "b*", "**/c"]
WORKERS = ["one", "two", "three"]
SECOND = 1_000_000
LEASE = 2_000  # milliseconds

Cursor = tuple[int, int]  # the stream's incarnation, and a position


class Workers:
    """Everybody who has to do with subscriptions in one simulation."""

    def __init__(self, simulation: "Simulation", paths: list[str]) -> None:
        self._simulation = simulation
        self._paths = paths
        self._sent: dict[int, Acknowledge | Release] = {}  # by the record that it became
        self._claims: dict[tuple[int, int], str] = {}  # who was told to hold which generation
        self._views: list[View] = []  # what workers and webhooks have been told of
        self._snapshots: dict[str, Snapshot] = {}  # what each delivery told that failed
        self._keys = 0
        self._passes: dict[str, _Pass] = {}
        self._were_missed: set[str] = (
            set()
        )  # subscriptions that had missed streams before this record
        self.cursors: dict[str, dict[str, Cursor]] = {}

    # -- what they do -------------------------------------------------------

    def act(self) -> None:
        """Does one thing."""
        chance = self._simulation.chance
        if self._simulation.max_due < len(self._paths):
            for id_ in chance.sample(IDS, chance.randint(0, 2)):
                self._recall(id_, chance.randint(1, 3))
        kind = chance.random()
        id_ = chance.choice(IDS)
        if kind < 0.2:
            self._execute(Subscribe(id_, self._config(chance)))
        elif kind < 0.23:
            self._execute(Unsubscribe(id_))
        elif kind < 0.28:
            self._execute(Link(id_, tuple(chance.sample(self._paths, 2))))
        elif kind < 0.32:
            self._execute(Unlink(id_, chance.choice(self._paths)))
        elif kind < 0.35:
            self._keep_keys(chance)
        elif kind < 0.4:
            self._take_news(chance)
        elif kind < 0.6:
            self._take(id_, chance.choice(WORKERS))
        elif self._views:
            self._execute(self._go_on(chance, chance.choice(self._views[-4:])))

    def pass_time(self) -> None:
        """Does what the time has come for, as the schedule would."""
        now, opening = self._simulation.now, self._subscriptions.opening
        for subscription in tuple(self._subscriptions):
            what, at = next_step(subscription.config.kind, subscription.wake, opening)
            if what is What.TEND and at is not None and at <= now:
                self._execute(Tend(subscription.id))

    def _take_news(self, chance: random.Random) -> None:
        """Some of a crowd take their news."""
        ids, last = self._subscriptions.to_take(chance.randint(1, 3))
        if (ids or last is not None) and self._execute(TakeNews(ids, last)) is None:
            self._subscriptions.feed.begin_again()

    def _recall(self, id_: str, limit: int) -> None:
        """Makes one step of a subscription's pass through all paths."""
        subscription = self._subscriptions.get(id_)
        if subscription is None or not subscription.missed:
            return
        one = self._passes.get(id_)
        if one is None or one.incarnation != subscription.incarnation or one.is_over:
            if self._subscriptions.may_recall(subscription):
                one = self._passes[id_] = _Pass(subscription.incarnation)
                self._step(id_, one, Recall(id_, one.incarnation, begins=True))
        elif not one.is_asking and self._subscriptions.may_recall(subscription):
            paths = tuple(one.paths[:limit])
            ends = len(paths) == len(one.paths)
            self._step(id_, one, Recall(id_, one.incarnation, paths, ends=ends))

    def _step(self, id_: str, one: "_Pass", command: Recall) -> None:
        one.is_asking = True
        ticket = self._execute(command)
        assert ticket is not None

        def settle(done: Ticket[Any]) -> None:
            one.is_asking = False
            try:
                outcome = done.result()
            except StreamError:
                return
            except Abandoned:
                self._passes.pop(id_, None)
                return
            assert isinstance(outcome, RecallOutcome)
            del one.paths[: outcome.count]
            if command.begins:
                one.paths = list(self._simulation.store.paths())
            all_taken = outcome.count == len(command.paths)
            one.is_over = not outcome.missed or (command.ends and all_taken)

        ticket.add_callback(settle)

    def forget(self) -> None:
        """The process has died: what was not answered is not known."""
        self._passes.clear()
        self._were_missed.clear()
        self._sent = {
            lsn: command
            for lsn, command in self._sent.items()
            if lsn <= self._simulation.store.wal.last_lsn
        }

    @property
    def _subscriptions(self) -> Subscriptions:
        return self._simulation.store.subscriptions

    def _config(self, chance: random.Random) -> Config:
        is_old = chance.random() < 0.2  # an earlier version kept whole paths
        streams = tuple(sorted(chance.sample(self._paths[:4], chance.randint(0, 2))))
        streams = streams if is_old else tuple(path[1:] for path in streams)
        pattern = chance.choice(PATTERNS) if not streams or chance.random() < 0.5 else None
        if chance.random() < 0.5:
            url = "https://receiver.example/hook"
            return Config("webhook", pattern, streams, url, None, LEASE, None)
        wake_stream = chance.choice(self._paths[4:])[0 if is_old else 1 :]
        return Config("pull-wake", pattern, streams, None, wake_stream, LEASE, None)

    def _keep_keys(self, chance: random.Random) -> None:
        self._keys += 1
        now = self._simulation.now
        fresh = Key(f"ds_{self._keys}", chance.randbytes(32), chance.randbytes(32), now)
        old = self._subscriptions.keys
        self._execute(KeepKeys((fresh, *old[:1]), tuple(key.kid for key in old)))

    def _take(self, id_: str, worker: str) -> None:
        """A worker claims; or, of a webhook, the courier takes what is to be delivered."""
        subscription = self._subscriptions.get(id_)
        if subscription is None or subscription.config.kind == "pull-wake":
            self._execute(Claim(id_, worker))
        elif subscription.wake is not None and subscription.wake.next_attempt is not None:
            ticket = self._execute(Deliver(self._grant(subscription)))
            if ticket is not None:
                ticket.add_callback(self._told)

    def _go_on(self, chance: random.Random, view: View) -> SubscriptionCommand:
        """What whoever was told of a wake does next."""
        assert view.wake is not None
        now, grant = self._simulation.now, view.grant
        if view.config.kind == "webhook":
            kind = chance.random()
            if kind < 0.2:
                return Delivered(grant, now)
            if kind < 0.4:
                told = view.streams if chance.random() < 0.5 else None
                if told is not None:
                    self._snapshots.setdefault(view.wake.wake_id, told)
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

    def _grant(self, subscription: Subscription) -> Grant:
        assert subscription.wake is not None
        wake_id = subscription.wake.wake_id
        return Grant(subscription.id, subscription.incarnation, subscription.generation, wake_id)

    def _told(self, ticket: Ticket[Any]) -> None:
        try:
            view = ticket.result()
        except (StreamError, Abandoned):
            return
        if isinstance(view, View):
            assert view.wake is not None
            told = self._snapshots.get(view.wake.wake_id, view.streams)
            assert view.streams == told, "one wake id tells of two snapshots"
            self._views.append(view)

    def _execute(self, command: SubscriptionCommand) -> Ticket[Any] | None:
        store = self._simulation.store
        before = store.wal.last_lsn
        ticket = self._simulation.send(command)
        if ticket is None:
            return None
        if isinstance(command, Acknowledge | Release) and store.wal.last_lsn > before:
            self._sent[store.wal.last_lsn] = command
        if isinstance(command, Claim):
            ticket.add_callback(lambda done: self._claimed(command, done))
        return ticket

    def _claimed(self, command: Claim, ticket: Ticket[Any]) -> None:
        try:
            view = ticket.result()
        except (StreamError, Abandoned):
            return
        assert isinstance(view, View)
        key = view.incarnation, view.generation
        assert key not in self._claims, "two workers hold one generation"
        self._claims[key] = command.worker
        self._views.append(view)

    # -- the oracle ---------------------------------------------------------

    def restart(self, states: dict[str, StreamState]) -> None:
        """The model of what is durable begins anew, with nothing in it."""
        self.cursors = {}

    def before(
        self,
        lsn: int,
        changes: list[Change],
        durable: Subscriptions,
        states: dict[str, StreamState],
    ) -> None:
        """Checks that the sender of a record was not fenced, and links what the record links, at the tails before it."""
        self._check_holder(self._sent.get(lsn), durable)
        for change in changes:
            if isinstance(change, Subscribed):
                self.cursors[change.id] = {
                    path: (state.incarnation, state.tail) for path, state in states.items()
                }
            elif isinstance(change, Relinked):
                subscription = durable.get(change.id)
                assert subscription is not None
                for path in (*change.added, *change.removed):
                    state = states.get(path)
                    if state is not None and not durable.matches(subscription, path):
                        self.cursors[change.id][path] = (state.incarnation, state.tail)
            elif isinstance(change, WakeChanged):
                self._check_generation(change, durable)

    def after(self, lsn: int, durable: Subscriptions, states: dict[str, StreamState]) -> None:
        """Moves the cursors by what one record acknowledges, and compares."""
        command = self._sent.get(lsn)
        if isinstance(command, Acknowledge):
            self._acknowledge(command, states)
        for id_ in [id_ for id_ in self.cursors if durable.get(id_) is None]:
            del self.cursors[id_]
        for subscription in durable:
            self._compare(subscription, durable, states)
        self._were_missed = {each.id for each in durable if each.missed}

    def _check_holder(self, command: Acknowledge | Release | None, durable: Subscriptions) -> None:
        """Checks that an acknowledgement or release names the wake that was in flight before it (PROTOCOL 7.3)."""
        if command is None:
            return
        subscription = durable.get(command.grant.id)
        assert subscription is not None, "a subscription that has ended was heard of"
        assert subscription.wake is not None, "who was fenced was heard"
        named = (command.generation, command.wake_id)
        assert named == (subscription.generation, subscription.wake.wake_id), (
            "who was fenced was heard"
        )

    def _check_generation(self, change: WakeChanged, durable: Subscriptions) -> None:
        subscription = durable.get(change.id)
        if subscription is None:
            return
        assert change.generation >= subscription.generation, "a generation went back"
        old, new = subscription.wake, change.wake
        if change.generation == subscription.generation and old is not None and new is not None:
            assert old.wake_id == new.wake_id
            assert old.holder in (None, new.holder), "a wake changed hands in one generation"

    def _acknowledge(self, command: Acknowledge, states: dict[str, StreamState]) -> None:
        cursors = self.cursors.get(command.grant.id, {})
        for path, offset in command.acks:
            state = states.get(path)
            known = cursors.get(path)
            if state is None or known is None or not _names(state, offset):
                continue
            if known[0] == state.incarnation:
                cursors[path] = (known[0], max(known[1], offset.position))

    def _compare(
        self, subscription: Subscription, durable: Subscriptions, states: dict[str, StreamState]
    ) -> None:
        cursors = self.cursors[subscription.id]
        draft = Draft(durable, states, (), self._simulation.now, 0)
        draft.settle(subscription)
        found = {path: offset.position for path, offset in draft.cursors(subscription)}
        since, _ = draft.missed(subscription)
        may_repeat = since > 0 or subscription.id in self._were_missed
        expected = {}
        for path, state in states.items():
            incarnation, position = cursors.get(path, (0, 0))
            if incarnation != state.incarnation:
                position = state.base
                cursors[path] = (state.incarnation, position)
            watched = path in subscription.streams or durable.matches(subscription, path)
            if not watched or state.soft_deleted:
                cursors[path] = (state.incarnation, state.tail)
            elif may_repeat and found.get(path, position) == state.base < position:
                expected[path] = (
                    state.base
                )  # it may have been missed, and is told of from its beginning
                if path in subscription.due:
                    cursors[path] = (state.incarnation, state.base)
            elif state.tail > position and (path in found or not 0 < since <= state.touched_at):
                expected[path] = position
        assert found == expected, f"{subscription.id} has other news than it should"
        assert len(subscription.due) <= self._simulation.max_due, f"{subscription.id} is too full"
        if expected:
            assert draft.wake_of(subscription) is not None, f"{subscription.id} has news, no wake"

    def compare(self, durable: Subscriptions) -> None:
        """What the store has kept is what the durable records make."""
        kept = self._subscriptions
        assert kept.document("keys") == durable.document("keys")
        assert kept.document("news") == durable.document("news")
        for id_ in IDS:
            name = f"subscription/{id_}"
            assert kept.document(name) == durable.document(name), f"subscription {id_} differs"

    def drain(self) -> None:
        """Workers that do their work to the end leave no news anywhere."""
        simulation = self._simulation
        for _ in range(100):
            simulation.now += 90 * SECOND
            self.pass_time()
            self._take_all_news()
            simulation.settle()
            for id_ in IDS:
                self._recall(id_, 2)
                simulation.settle()
            for subscription in tuple(self._subscriptions):
                self._work(subscription)
            if not any(each.due or each.missed for each in self._subscriptions):
                return
        raise AssertionError("there is news that nobody is ever told of")

    def _take_all_news(self) -> None:
        feed = self._subscriptions.feed
        feed.begin_again()
        while len(feed):
            ids, last = self._subscriptions.to_take(10)
            if last is not None:
                feed.begin_again()
            assert self._execute(TakeNews(ids, last)) is not None

    def _work(self, subscription: Subscription) -> None:
        if subscription.wake is None:
            assert not subscription.due
            return
        if subscription.config.kind == "pull-wake":
            view = self._answer(Claim(subscription.id, "last"))
        else:
            assert subscription.wake.next_attempt is not None, "a delivery that is never made"
            before = subscription.wake.wake_id
            view = self._answer(Deliver(self._grant(subscription)))
            if not subscription.due:  # all was acknowledged before
                assert subscription.wake is None
                return
            if isinstance(
                view, Done
            ):  # a stream that it told of has ended: another wake tells of the rest
                assert subscription.wake is not None
                assert subscription.wake.wake_id != before
                return
        assert isinstance(view, View)
        assert view.wake is not None
        acks = tuple((stream.path, parse(stream.tail)) for stream in view.streams)
        outcome = self._answer(
            Acknowledge(view.grant, view.generation, view.wake.wake_id, acks, done=True)
        )
        assert isinstance(outcome, AckOutcome)

    def _answer(self, command: SubscriptionCommand) -> Any:
        simulation = self._simulation
        before = simulation.store.wal.last_lsn
        ticket = simulation.send(command)
        assert ticket is not None
        if isinstance(command, Acknowledge) and simulation.store.wal.last_lsn > before:
            self._sent[simulation.store.wal.last_lsn] = command
        simulation.settle()
        return ticket.result()


class _Pass:
    """A pass through all paths, for one incarnation of a subscription."""

    def __init__(self, incarnation: int) -> None:
        self.incarnation = incarnation
        self.paths: list[str] = []  # that it has not come to
        self.is_asking = False  # the store has not answered yet
        self.is_over = False


def _names(state: StreamState, offset: Offset) -> bool:
    """Whether an offset is one of this stream's own names."""
    return state.name(offset.position) == str(offset) or offset == Offset(0, 0)
