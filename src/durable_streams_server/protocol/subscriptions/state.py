"""All subscriptions of one store, and how each change alters them.

The number of cursors is bounded. A subscription that has no room for another cursor *misses* streams: it keeps only the time of the
first append that it missed. Once there is room, a recall pass through all streams gives cursors to those used since then.
"""

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from ..limits import MAX_RETRY_DELAY, RETRY_JITTER
from ..names import DEFAULT_STREAM_ROOT
from ..signing import Key
from ..units import MILLISECOND, SECOND
from .changes import (
    CursorsMoved,
    KeysKept,
    Missed,
    News,
    NewsTaken,
    Subscribed,
    SubscriptionChange,
    Unsubscribed,
    WakeChanged,
)
from .documents import KEYS, NEWS, decode_subscription, encode_subscription, subscription_id
from .feed import Feed
from .owner_counts import OwnerCounts
from .subscription import Subscription
from .watching import Watching

#: Maximum number of watchers of one stream that an append wakes in its own record. This many take a fraction of a millisecond and a
#: few KiB of the record. More watchers are woken in slices, in records of their own.
CROWD: Final = 32
#: Maximum number of subscriptions that one call of `to_take` examines, which takes less than a millisecond.
_LOOKED_AT: Final = 1_000
#: Maximum number of streams with unread bytes per subscription. A checkpoint encodes this many in one step of 40 ms.
MAX_DUE: Final = 40_000
#: Maximum number of streams with unread bytes over all subscriptions, at 256 bytes each.
MAX_CURSORS: Final = 1_000_000
#: Maximum number of streams with unread bytes per subscription once `MAX_CURSORS` is reached. One wake lists the same number.
FEW_DUE: Final = 1_000
_LONGEST_RETRY: Final = round(MAX_RETRY_DELAY * (1 + RETRY_JITTER) * SECOND)


class Subscriptions:
    """All subscriptions of one store, and the server's signing keys.

    Args:
        root: the stream root, below which patterns match.
        opening: a random name of this opening of the store. It is part of every wake id, so a store that a repair
            or a restored copy has set back to an earlier state never issues the same wake id again.

    Attributes:
        by_id: all subscriptions by id.
        root: the present stream root.
        opening: the name of this opening of the store.
        keys: the signing keys, the active one first.
        feed: the appends that were not applied to all subscriptions yet.
        crowd: the maximum number of watchers of one stream that an append wakes in its own record.
        kept: the number of cursors that all subscriptions keep.
        owners: the number of subscriptions of each owner.
        max_due: the maximum number of streams with unread bytes per subscription.
        max_cursors: the number of kept cursors from which `few_due` replaces `max_due`.
        few_due: the maximum number of streams with unread bytes per subscription while cursors are scarce.
        watch: a function that returns the watchers of the stream at a path, or `NOBODY`.
    """

    def __init__(self, root: str = DEFAULT_STREAM_ROOT, opening: str = "") -> None:
        self.keys: tuple[Key, ...] = ()
        self.root = root
        self.opening = opening
        self.by_id: dict[str, Subscription] = {}
        self.feed = Feed()
        self.crowd = CROWD
        self.kept = 0
        self.owners = OwnerCounts()
        self.max_due = MAX_DUE
        self.max_cursors = MAX_CURSORS
        self.few_due = FEW_DUE
        self._begin_watching(root)

    def __len__(self) -> int:
        return len(self.by_id)

    def __iter__(self) -> Iterator[Subscription]:
        return iter(self.by_id.values())

    def get(self, id_: str) -> Subscription | None:
        """Returns the subscription with an id, or None."""
        return self.by_id.get(id_)

    def _begin_watching(self, root: str) -> None:
        self._watching = Watching(root)
        self.watch = self._watching.of  # a bound method, because every append calls it

    def watchers(self, path: str) -> Iterator[Subscription]:
        """Yields the subscriptions that watch a stream."""
        return (self.by_id[id_] for id_ in self._watching.of(path).ids())

    def matches(self, subscription: Subscription, path: str) -> bool:
        """Returns whether a subscription's pattern links a stream. No pattern links a wake stream, or wakes would cause wakes."""
        return self._watching.matches(subscription.config.pattern, path)

    def announcing(self, path: str) -> list[Subscription]:
        """Returns the subscriptions whose wake stream has this path."""
        return [self.by_id[id_] for id_ in self._watching.announcing(path)]

    def relative(self, path: str) -> str:
        """Returns a path relative to the stream root, as clients write it (PROTOCOL 6)."""
        return path.removeprefix(self.root + "/")

    def wake_name(self, subscription: Subscription, generation: int) -> str:
        """Returns the wake id of a generation. No other wake of any subscription has or had the same id."""
        return f"w_{subscription.incarnation:x}_{generation:x}_{self.opening}"

    def room(self, subscription: Subscription, more: int = 0, more_of_all: int = 0) -> int:
        """Returns how many more cursors a subscription may keep.

        Args:
            subscription: the subscription.
            more: the number of cursors that it gains in the record that is being drafted.
            more_of_all: the number of cursors that all subscriptions gain in that record.
        """
        is_scarce = self.kept + more_of_all >= self.max_cursors
        limit = min(self.few_due, self.max_due) if is_scarce else self.max_due
        return limit - len(subscription.due) - more

    def may_recall(self, subscription: Subscription, more: int = 0, more_of_all: int = 0) -> bool:
        """Returns whether a missed stream may get a cursor.

        Half of the room is for missed streams, and half for streams that get new appends meanwhile.
        """
        count = len(subscription.due) + more
        return count < self.room(subscription, more, more_of_all)

    def to_take(self, limit: int) -> tuple[tuple[str, ...], int | None]:
        """Returns the ids of some subscriptions to which the oldest feed entry was not applied yet.

        Also returns the number of the entry, if these are the last such subscriptions.

        Each id is returned once, unless `feed.begin_again` is called. The number is None while other subscriptions may be left. The
        ids may be empty then, because one call examines a bounded number of subscriptions.
        """
        news = self.feed.oldest_below(self.root)
        if news is None:
            return (), None
        ids = self.feed.waiting_for(news, self._watching.of(news.path))
        found: list[str] = []
        for looked_at, id_ in enumerate(ids):
            if looked_at == _LOOKED_AT:
                self.feed.put_back(id_)
                return tuple(found), None
            subscription = self.by_id.get(id_)
            if subscription is not None and subscription.has_taken(self.root) < news.number:
                found.append(id_)
                if len(found) == limit:
                    return tuple(found), None
        return tuple(found), news.number

    # -- changes ------------------------------------------------------------

    def apply(self, change: SubscriptionChange) -> Subscription | None:
        """Applies a change to the newest state, and returns the subscription that changed, or None for the keys and the feed."""
        if isinstance(change, Subscribed):
            return self._begin(change)
        if isinstance(change, KeysKept):
            self.keys = change.keys
            return None
        if isinstance(change, News):
            self.feed.add(change)
            return None
        if isinstance(change, NewsTaken):
            self.feed.drop(change.number)
            return None
        subscription = self.by_id[change.id]
        if isinstance(change, WakeChanged):
            subscription.generation = change.generation
            subscription.wake = change.wake
            subscription.pass_over(change.passed)
        elif isinstance(change, CursorsMoved):
            self._move_cursors(subscription, change)
        elif isinstance(change, Missed):
            if change.since:
                subscription.misses[change.root] = change.since, change.again
            else:
                subscription.misses.pop(change.root, None)
        elif isinstance(change, Unsubscribed):
            del self.by_id[subscription.id]
            if subscription.wake_stream is not None:
                # Patterns may link the stream again, so its next append may change a subscription.
                self.feed.covered.discard(subscription.wake_stream)
            self.kept -= len(subscription.cursors)
            self.owners.remove(subscription.owner)
            self._watching.remove(
                subscription.id, subscription.config.pattern, *_paths(subscription)
            )
        else:
            added, removed = subscription.link(change.added, change.removed)
            self._watching.link(subscription.id, added)
            self._watching.unlink(subscription.id, removed)
            self.feed.uncover(added)
        return subscription

    def _begin(self, change: Subscribed) -> Subscription:
        subscription = Subscription(
            change.id, change.incarnation, change.config, change.at, self.root, change.owner
        )
        subscription.begun_after = self.feed.newest
        self._add(subscription)
        return subscription

    def _move_cursors(self, subscription: Subscription, change: CursorsMoved) -> None:
        for path, offset in change.cursors:
            self.kept += subscription.set_cursor(path, offset)
            if offset is None:
                self.feed.covered.discard(path)
        if change.taken is not None:
            root, number = change.taken
            subscription.taken[root] = number

    def move(self, root: str) -> None:
        """Moves patterns and links below another stream root."""
        self.root = root
        self.feed.covered.clear()
        self._begin_watching(root)
        for subscription in self.by_id.values():
            subscription.move(root)
            self._watching.add(subscription.id, subscription.config.pattern, *_paths(subscription))

    def _add(self, subscription: Subscription) -> None:
        replaced = self.by_id.get(subscription.id)
        if replaced is not None:  # its end is missing among the records of a damaged log
            self.owners.remove(replaced.owner)
        self.owners.add(subscription.owner)
        self.by_id[subscription.id] = subscription
        self._watching.add(subscription.id, subscription.config.pattern, *_paths(subscription))
        self.feed.covered.clear()

    # -- documents ----------------------------------------------------------

    def reached(self, change: SubscriptionChange) -> int:
        """Returns a time that steady time had reached when a change was decided, or 0 if the change reveals none.

        It is derived from the end of a lease, whose length is configured, or from the time of a retry, whose delay is bounded.
        """
        if isinstance(change, Missed):
            return max(change.since, change.again)
        if not isinstance(change, WakeChanged) or change.wake is None:
            return 0
        subscription = self.by_id.get(change.id)
        if change.wake.lease_until is not None and subscription is not None:
            return change.wake.lease_until - subscription.config.lease_ttl * MILLISECOND
        if change.wake.next_attempt is not None:
            return change.wake.next_attempt - _LONGEST_RETRY
        return 0

    def document(self, name: str) -> bytes | None:
        """Returns the document with a name, or None if the subscription that it is about is gone."""
        if name == KEYS:
            return msgspec.msgpack.encode(self.keys)
        if name == NEWS:
            return self.feed.document()
        subscription = self.by_id.get(subscription_id(name))
        return None if subscription is None else encode_subscription(subscription)

    def restore(self, name: str, document: bytes) -> None:
        """Restores a subscription, the keys or the feed from its document."""
        if name == KEYS:
            self.keys = msgspec.msgpack.decode(document, type=tuple[Key, ...])
            return
        if name == NEWS:
            self.feed.restore(document)
            return
        subscription = decode_subscription(document, self.root)
        known = self.by_id.get(subscription.id)
        self.kept += len(subscription.cursors) - (0 if known is None else len(known.cursors))
        self._add(subscription)


def _paths(subscription: Subscription) -> tuple[Iterable[str], str | None]:
    """Returns the explicitly linked paths and the wake stream, as arguments for `Watching.add`."""
    return subscription.streams, subscription.wake_stream
