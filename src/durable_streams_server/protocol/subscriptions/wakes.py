"""What the changes of streams mean for subscriptions: the rest of the record that an append makes.

An append to a stream that nobody watches costs one look-up. One to a watched stream marks it as due, and wakes each of its
subscriptions that is idle; of a pull-wake the event on its wake stream is in the same record. So no crash can come between
an append and the wake that it causes.
"""

from collections.abc import Iterable, Sequence

import msgspec

from ..lifetime import MICROSECONDS
from ..media import Kind
from ..names import MAX_POSITION
from ..offsets import Offset, parse
from ..state import Appended, Change, Created, Lookup, Removed, SoftDeleted
from .changes import CursorsMoved, Wake, WakeChanged
from .state import Subscription, Subscriptions

_MILLISECOND = MICROSECONDS // 1000


def follow(
    subscriptions: Subscriptions,
    states: Lookup,
    changes: Sequence[Change],
    now: int,
    offset: int = 0,
) -> tuple[Change, ...]:
    """Returns the further changes of a record: cursors, wakes, and wake events.

    Args:
        subscriptions: as they are before the record.
        states: the newest states, before the record.
        changes: what has been decided.
        now: microseconds of steady time.
        offset: microseconds by which the wall clock is ahead, for dates.
    """
    first = changes[0]
    if len(changes) == 1 and isinstance(first, Appended) and not subscriptions.watchers(first.path):
        return ()  # as for nearly every append
    draft = Draft(subscriptions, states, changes, now, offset)
    for change in changes:
        draft.take(change)
    return draft.finish()


class Draft:
    """The part of a record that is about subscriptions."""

    def __init__(
        self,
        subscriptions: Subscriptions,
        states: Lookup,
        changes: Iterable[Change],
        now: int,
        offset: int,
    ) -> None:
        self._subscriptions = subscriptions
        self._states = states
        self._now = now
        self._offset = offset
        self._created: dict[str, Created] = {}
        self._tails: dict[str, int] = {}
        self._over: set[str] = set()  # what this record closes or removes takes no event
        for change in changes:
            if isinstance(change, Created):
                self._created[change.path] = change
                self._over.discard(change.path)
            elif isinstance(change, Removed | SoftDeleted):
                self._over.add(change.path)
            elif isinstance(change, Appended):
                self._tails[change.path] = change.start + len(change.data)
                if change.closes:
                    self._over.add(change.path)
        self._cursors: dict[str, dict[str, Offset | None]] = {}
        self._wakes: dict[str, WakeChanged] = {}
        self._events: list[Appended] = []

    def take(self, change: Change) -> None:
        """Notes what one change of a stream means."""
        if isinstance(change, Appended):
            if change.data:
                for subscription in self._subscriptions.watchers(change.path):
                    self._appended(subscription, change)
        elif isinstance(change, Removed | SoftDeleted):
            for subscription in self._subscriptions.watchers(change.path):
                self.end_of_link(subscription, change.path)
        elif isinstance(change, Created):
            for subscription in self._subscriptions.announcing(change.path):
                self._announce_again(subscription)

    def finish(self) -> tuple[Change, ...]:
        """Returns the changes; what they append may be watched too."""
        for event in self._events:  # grows meanwhile
            self.take(event)
        cursors = [CursorsMoved(id_, tuple(moved.items())) for id_, moved in self._cursors.items()]
        return (*cursors, *self._wakes.values(), *self._events)

    def wake(self, subscription: Subscription, path: str) -> None:
        """Begins a new wake, because of news in the stream at `path`."""
        generation = subscription.generation + 1
        name = wake_name(subscription, generation)
        if subscription.config.kind == "webhook":
            wake = Wake(name, next_attempt=self._now)
        else:
            wake = Wake(name)
            self._announce(subscription, path, generation)
        self._wakes[subscription.id] = WakeChanged(subscription.id, generation, wake)

    def rest(self, subscription: Subscription) -> None:
        """Ends the wake in flight."""
        self._wakes[subscription.id] = WakeChanged(subscription.id, subscription.generation, None)

    def move(self, subscription: Subscription, path: str, cursor: Offset | None) -> None:
        """Moves the cursor of one stream; None is its tail."""
        self._cursors.setdefault(subscription.id, {})[path] = cursor

    def is_due(self, subscription: Subscription, path: str) -> bool:
        """Whether a stream has news for a subscription, as far as this record has come."""
        moved = self._cursors.get(subscription.id, {})
        if path in moved:
            return moved[path] is not None
        return path in subscription.due

    def first_due(self, subscription: Subscription) -> str | None:
        """Returns one of the streams that have news, if any has. One that a repair has put aside has none any more."""
        moved = self._cursors.get(subscription.id, {})
        for path in (*subscription.due, *moved):
            if not self.is_due(subscription, path):
                continue
            state = self._states.get(path)
            if path in self._created or (state is not None and not state.soft_deleted):
                return path
            self.move(subscription, path, None)
        return None

    def _appended(self, subscription: Subscription, change: Appended) -> None:
        if not self.is_due(subscription, change.path):
            self.move(subscription, change.path, self._name(change.path, change.start))
        begun = self._wakes.get(subscription.id)
        if (begun.wake if begun is not None else subscription.wake) is None:
            self.wake(subscription, change.path)

    def end_of_link(self, subscription: Subscription, path: str) -> None:
        """A stream is gone or unlinked, and its news with it. A wake that nobody has taken yet ends if there is no other."""
        if not self.is_due(subscription, path):
            return
        self.move(subscription, path, None)
        wake = subscription.wake
        untaken = wake is not None and wake.holder is None and wake.lease_until is None
        if untaken and self.first_due(subscription) is None:
            self.rest(subscription)

    def _announce_again(self, subscription: Subscription) -> None:
        """Tells a new wake stream of a wake that an earlier one, or none, was told of."""
        wake, path = subscription.wake, self.first_due(subscription)
        if wake is not None and wake.holder is None and path is not None:
            self._announce(subscription, path, subscription.generation)

    def _announce(self, subscription: Subscription, path: str, generation: int) -> None:
        """Appends a pull-wake's event to its wake stream, if there is one that can take it (PROTOCOL 7.2)."""
        wake_stream = subscription.config.wake_stream
        if wake_stream is None or wake_stream in self._over:
            return
        created = self._created.get(wake_stream)
        state = self._states.get(wake_stream)
        if created is not None:
            media, incarnation = created.media, created.incarnation
            start = created.origin.position if created.origin is not None else 0
        elif state is None or state.closed or state.soft_deleted or state.expired(self._now):
            return
        else:
            media, incarnation, start = state.media, state.incarnation, state.tail
        start = self._tails.get(wake_stream, start)
        data = self._event(subscription, path, generation)
        if media.kind is not Kind.JSON or start + len(data) > MAX_POSITION:
            return
        self._tails[wake_stream] = start + len(data)
        self._events.append(Appended(wake_stream, incarnation, start, data, False, self._now))

    def _event(self, subscription: Subscription, path: str, generation: int) -> bytes:
        event = {
            "type": "wake",
            "subscription_id": subscription.id,
            "stream": self._subscriptions.relative(path),
            "generation": generation,
            "ts": (self._now + self._offset) // _MILLISECOND,
        }
        return msgspec.json.encode(event) + b","

    def _name(self, path: str, position: int) -> Offset:
        created = self._created.get(path)
        if created is not None:
            return parse(created.name(position))
        state = self._states.get(path)
        assert state is not None
        return parse(state.name(position))


def wake_name(subscription: Subscription, generation: int) -> str:
    """Returns the wake id of a generation, which no other wake of any subscription has or had."""
    return f"w_{subscription.incarnation:x}_{generation:x}"
