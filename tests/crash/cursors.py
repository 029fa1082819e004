"""The simulator's oracle of subscriptions: derives which streams have news from the acknowledgements that became durable.

The oracle keeps cursors of its own. A cursor starts at the tail when its stream is linked, and only a durable acknowledgement
moves it. In some seeds, each subscription may keep only a few cursors. A subscription without room for a cursor records that it has missed
streams, and the store may announce a missed stream again from its beginning.
"""

from collections import Counter
from collections.abc import Mapping

from durable_streams_server.protocol.offsets import Offset
from durable_streams_server.protocol.state import Change, StreamState
from durable_streams_server.protocol.subscriptions.changes import (
    Relinked,
    Subscribed,
    WakeChanged,
)
from durable_streams_server.protocol.subscriptions.commands import Acknowledge, Release
from durable_streams_server.protocol.subscriptions.draft import Draft
from durable_streams_server.protocol.subscriptions.state import Subscriptions
from durable_streams_server.protocol.subscriptions.subscription import Subscription
from tests.crash.world import World

#: The ids of the subscriptions in every run.
IDS = ["s", "t", "u"]

Cursor = tuple[int, int]  # the stream's incarnation and a position
States = dict[str, StreamState]


class CursorOracle:
    """Checks cursors, wakes and generations against the durable records.

    Args:
        world: the simulation.
        sent: the acknowledgement or release that caused a record, by the LSN of the record.
    """

    def __init__(self, world: World, sent: Mapping[int, Acknowledge | Release]) -> None:
        self._world = world
        self._sent = sent
        self._cursors: dict[str, dict[str, Cursor]] = {}
        self._had_missed: set[str] = (
            set()
        )  # the subscriptions that had missed streams before the record

    def begin_life(self) -> None:
        """Forgets all cursors, because the durable records will be applied again from the first one."""
        self._cursors = {}
        self._had_missed.clear()

    def before(
        self, lsn: int, changes: list[Change], durable: Subscriptions, states: States
    ) -> None:
        """Checks a record before it is applied. For each stream that the record links, sets the cursor to the present tail.

        Args:
            lsn: the LSN of the record.
            changes: the changes of the record.
            durable: the subscriptions before the record.
            states: the streams before the record.
        """
        self._check_holder(self._sent.get(lsn), durable)
        for change in changes:
            if isinstance(change, Subscribed):
                self._cursors[change.id] = {
                    path: (state.incarnation, state.tail) for path, state in states.items()
                }
            elif isinstance(change, Relinked):
                self._relink(change, durable, states)
            elif isinstance(change, WakeChanged):
                _check_generation(change, durable)

    def after(self, lsn: int, durable: Subscriptions, states: States) -> None:
        """Moves the cursors that a record acknowledges, and compares every subscription.

        Args:
            lsn: the LSN of the record.
            durable: the subscriptions after the record.
            states: the streams after the record.
        """
        command = self._sent.get(lsn)
        if isinstance(command, Acknowledge):
            self._acknowledge(command, states)
        for id_ in [id_ for id_ in self._cursors if durable.get(id_) is None]:
            del self._cursors[id_]
        for subscription in durable:
            self._compare(subscription, durable, states)
        self._had_missed = {each.id for each in durable if each.missed}

    def compare_owners(self) -> None:
        """Compares the number of subscriptions of each owner with the newest subscriptions, those in flight included."""
        newest = self._world.store.subscriptions
        owned = Counter(each.owner for each in newest if each.owner is not None)
        assert newest.owners.counts == owned, "an owner has another number of subscriptions"

    def compare_documents(self, durable: Subscriptions) -> None:
        """Compares the documents in the store with those that result from the durable records."""
        kept = self._world.store.subscriptions
        assert kept.document("keys") == durable.document("keys")
        assert kept.document("news") == durable.document("news")
        for id_ in IDS:
            name = f"subscription/{id_}"
            assert kept.document(name) == durable.document(name), f"subscription {id_} differs"
        assert _owners(kept) == _owners(durable), "a subscription has another owner"

    def _relink(self, change: Relinked, durable: Subscriptions, states: States) -> None:
        subscription = durable.get(change.id)
        assert subscription is not None
        for path in (*change.added, *change.removed):
            state = states.get(path)
            if state is not None and not durable.matches(subscription, path):
                self._cursors[change.id][path] = (state.incarnation, state.tail)

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

    def _acknowledge(self, command: Acknowledge, states: States) -> None:
        cursors = self._cursors.get(command.grant.id, {})
        for path, offset in command.acks:
            state = states.get(path)
            known = cursors.get(path)
            if state is None or known is None or not _belongs_to(state, offset):
                continue
            if known[0] == state.incarnation:
                cursors[path] = (known[0], max(known[1], offset.position))

    def _compare(self, subscription: Subscription, durable: Subscriptions, states: States) -> None:
        """Checks that a subscription has exactly the news that its cursors imply, and a wake if it has any."""
        draft = Draft(durable, states, (), self._world.now, 0)
        draft.take_news(subscription)
        found = {path: offset.position for path, offset in draft.cursors(subscription)}
        since, _ = draft.missed(subscription)
        expected = self._news(subscription, durable, states, found, since)
        assert found == expected, f"{subscription.id} has other news than it should"
        assert len(subscription.due) <= self._world.max_due, f"{subscription.id} is too full"
        if expected:
            assert draft.wake_of(subscription) is not None, f"{subscription.id} has news, no wake"

    def _news(
        self,
        subscription: Subscription,
        durable: Subscriptions,
        states: States,
        found: dict[str, int],
        since: int,
    ) -> dict[str, int]:
        """Returns the cursor of each stream that must have news, and moves the cursors of streams that are not watched.

        Args:
            subscription: the subscription.
            durable: all subscriptions.
            states: all streams.
            found: the cursors of streams with news, as the store has them.
            since: the time since which the subscription has missed streams, or 0.
        """
        cursors = self._cursors[subscription.id]
        may_repeat = since > 0 or subscription.id in self._had_missed
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
                # The subscription may have missed the stream, so the server announces it from its beginning.
                expected[path] = state.base
                if path in subscription.due:
                    cursors[path] = (state.incarnation, state.base)
            elif state.tail > position and (path in found or not 0 < since <= state.touched_at):
                expected[path] = position
        return expected


def _owners(subscriptions: Subscriptions) -> dict[str, str | None]:
    """Returns the owner of each subscription by id."""
    return {each.id: each.owner for each in subscriptions}


def _check_generation(change: WakeChanged, durable: Subscriptions) -> None:
    """Checks that a generation never decreases, and that a wake keeps its holder while its generation lasts."""
    subscription = durable.get(change.id)
    if subscription is None:
        return
    assert change.generation >= subscription.generation, "a generation went back"
    old, new = subscription.wake, change.wake
    if change.generation == subscription.generation and old is not None and new is not None:
        assert old.wake_id == new.wake_id
        assert old.holder in (None, new.holder), "a wake changed hands in one generation"


def _belongs_to(state: StreamState, offset: Offset) -> bool:
    """Returns whether an offset is one that the stream itself gives out."""
    return state.name(offset.position) == str(offset) or offset == Offset(0, 0)
