"""What is known of every subscription, and how each change alters it.

A cursor is kept only for streams with news: every other stream's cursor is its tail. So a subscription to a million streams
costs what its backlog costs, and linking an existing stream at its tail costs nothing.

In memory paths are whole. What is kept of links is relative to the stream root; cursors are kept by whole paths, since they
belong to streams that are where they are. Those of streams outside the present root are set aside until the root is theirs
again.

How many cursors a subscription may have is bounded. One that is full *misses* streams: it keeps only the time since when, and a
pass through all streams gives cursors to those that were used since then, once there is room.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

import msgspec

from ..limits import MAX_RETRY_DELAY, RETRY_JITTER
from ..names import DEFAULT_STREAM_ROOT
from ..offsets import Offset
from ..signing import Key
from ..units import SECOND
from .changes import (
    Config,
    CursorsMoved,
    KeysKept,
    Missed,
    News,
    NewsTaken,
    Subscribed,
    SubscriptionChange,
    Unsubscribed,
    Wake,
    WakeChanged,
)
from .feed import Feed
from .watching import Watching

#: Watchers of one stream that an append wakes in its own record; more are woken in slices, in records of their own. So many cost
#: the append a fraction of a millisecond, and its record a few KiB.
CROWD: Final = 32
_LOOKED_AT: Final = (
    1_000  # subscriptions that one call of `to_take` looks at, in less than a millisecond
)
#: Streams with news of one subscription. Its document is encoded in one step at each checkpoint: 40 ms for so many.
MAX_DUE: Final = 40_000
MAX_CURSORS: Final = 1_000_000  # streams with news of all subscriptions, 256 bytes each
FEW_DUE: Final = (
    1_000  # streams with news of one subscription once there are so many; one wake tells of as many
)
_KEYS: Final = "keys"  # the names of documents
_NEWS: Final = "news"
_PREFIX: Final = "subscription/"
_LONGEST_RETRY: Final = round(MAX_RETRY_DELAY * (1 + RETRY_JITTER) * SECOND)


class Subscription:
    """One incarnation of a subscription.

    Attributes:
        id: the client's name for it.
        incarnation: tells it from earlier ones of that id.
        config: as it was created.
        created_at: microseconds of Unix time.
        streams: paths of explicitly linked streams.
        due: streams with bytes past their cursor: path to acknowledged offset, the next to be told of first.
        aside: the same of streams that are outside the present stream root.
        begun_after: the number of the newest `News` when it began.
        taken: by stream root, the number of the newest `News` below that root that it has taken.
        generation: the number of its newest wake.
        wake: the wake in flight, if there is one.
        misses: by stream root: since when streams below it were missed, and since when again, as in `Missed`.
    """

    __slots__ = (
        "_root",
        "aside",
        "begun_after",
        "config",
        "created_at",
        "due",
        "generation",
        "id",
        "incarnation",
        "links",
        "misses",
        "streams",
        "taken",
        "wake",
    )

    def __init__(
        self, id_: str, incarnation: int, config: Config, created_at: int, root: str
    ) -> None:
        self.id = id_
        self.incarnation = incarnation
        self.config = config
        self.created_at = created_at
        self.links: dict[str, None] = dict.fromkeys(config.streams)
        self.streams: dict[str, None] = {}
        self.due: dict[str, Offset] = {}
        self.aside: dict[str, Offset] = {}
        self.begun_after = 0
        self.taken: dict[str, int] = {}
        self.generation = 0
        self.wake: Wake | None = None
        self.misses: dict[str, tuple[int, int]] = {}
        self.move(root)

    @property
    def wake_stream(self) -> str | None:
        """The path of a pull-wake's wake stream."""
        below = self.config.wake_stream
        return None if below is None else _whole(below, self._root)

    def move(self, root: str) -> None:
        """Has links be below a stream root, and sorts the cursors by it."""
        self._root = root
        config = self.config
        if any(path.startswith("/") for path in (*config.streams, config.wake_stream or "")):
            self.config = msgspec.structs.replace(
                config,
                streams=tuple(_below(path, root) for path in config.streams),
                wake_stream=config.wake_stream and _below(config.wake_stream, root),
            )
        self.links = {_below(path, root): None for path in self.links}
        self.streams = {_whole(path, root): None for path in self.links}
        cursors = self.cursors
        prefix = root + "/"
        self.due = {path: at for path, at in cursors.items() if path.startswith(prefix)}
        self.aside = {path: at for path, at in cursors.items() if not path.startswith(prefix)}

    @property
    def cursors(self) -> dict[str, Offset]:
        """All cursors that are kept."""
        return {**self.due, **self.aside} if self.aside else self.due

    def has_taken(self, root: str) -> int:
        """Returns the number of the newest news below a root that it has taken."""
        return self.taken.get(root, self.begun_after)

    @property
    def missed(self) -> int:
        """Microseconds of steady time since which streams below the present root were missed; 0 if none are."""
        return self.misses[self._root][0] if self._root in self.misses else 0

    @property
    def missed_again(self) -> int:
        """The same of streams that a pass which has begun may not find."""
        return self.misses[self._root][1] if self._root in self.misses else 0

    def set_cursor(self, path: str, offset: Offset | None) -> int:
        """Keeps a stream's cursor; None is its tail. Returns how many more cursors are kept now: -1, 0 or 1."""
        is_below = path.startswith(self._root + "/")
        kept = self.due if is_below else self.aside
        before = len(kept)
        if offset is None:
            kept.pop(path, None)
        else:
            kept[path] = offset
        return len(kept) - before

    def pass_over(self, count: int) -> None:
        """Puts the first streams with news at the end of the line."""
        for path in list(islice(self.due, count)):
            self.due[path] = self.due.pop(path)

    def link(self, added: Iterable[str], removed: Iterable[str]) -> tuple[list[str], list[str]]:
        """Alters the explicit links, which are given relative to the root. Returns the whole paths that this adds and removes."""
        now_linked, unlinked = [], []
        for path in added:
            below = _below(path, self._root)
            whole = _whole(below, self._root)
            self.links[below] = self.streams[whole] = None
            now_linked.append(whole)
        for path in removed:
            for below in self._kept_as(_below(path, self._root)):
                del self.links[below]
                whole = _whole(below, self._root)
                del self.streams[whole]
                unlinked.append(whole)
        return now_linked, unlinked

    def _kept_as(self, path: str) -> list[str]:
        """Returns how a link is kept: while an earlier version's records are replayed, the root is not known, and a link may still
        be kept whole."""
        if path in self.links:
            return [path]
        return [each for each in self.links if each[0] == "/" and each.endswith("/" + path)]


class _Kept(msgspec.Struct, frozen=True, array_like=True):
    """A subscription as it is kept in a store."""

    id: str
    incarnation: int
    config: Config
    created_at: int
    streams: tuple[str, ...]
    due: dict[str, Offset]
    generation: int
    wake: Wake | None
    begun_after: int = 0
    taken: dict[str, int] = {}
    misses: dict[str, tuple[int, int]] = {}


class Subscriptions:
    """All subscriptions of one store, and the server's keys.

    Args:
        root: the stream root, below which patterns match.
        opening: names this opening of the store. It is part of every `wake_id`, so a store that goes back to an earlier state,
            by a repair or as a restored copy, gives no `wake_id` out again.

    Attributes:
        by_id: them all.
        root: as given, or as `move` was told.
        opening: as given.
        keys: the active one first.
        feed: news that a crowd has not taken yet.
        crowd: how many watchers of one stream are woken in an append's own record.
        kept: how many cursors all of them keep.
        max_due: how many streams with news one may have.
        max_cursors: how many cursors they may keep together before each may only have `few_due` streams with news.
        few_due: see there.
        watch: returns the ids of those that a stream is linked to; `NOBODY` if there are none.
    """

    def __init__(self, root: str = DEFAULT_STREAM_ROOT, opening: str = "") -> None:
        self.keys: tuple[Key, ...] = ()
        self.root = root
        self.opening = opening
        self.by_id: dict[str, Subscription] = {}
        self.feed = Feed()
        self.crowd = CROWD
        self.kept = 0
        self.max_due = MAX_DUE
        self.max_cursors = MAX_CURSORS
        self.few_due = FEW_DUE
        self._begin_watching(root)

    def __len__(self) -> int:
        return len(self.by_id)

    def __iter__(self) -> Iterator[Subscription]:
        return iter(self.by_id.values())

    def get(self, id_: str) -> Subscription | None:
        """Returns a subscription."""
        return self.by_id.get(id_)

    def _begin_watching(self, root: str) -> None:
        self._watching = Watching(root)
        self.watch = self._watching.of  # which each append asks, so it is one call

    def watchers(self, path: str) -> Iterator[Subscription]:
        """Yields the subscriptions that a stream is linked to."""
        return (self.by_id[id_] for id_ in self._watching.of(path).ids())

    def matches(self, subscription: Subscription, path: str) -> bool:
        """Whether a subscription's pattern links a stream. Wake streams are linked by no pattern, or wakes would cause wakes."""
        return self._watching.matches(subscription.config.pattern, path)

    def announcing(self, path: str) -> list[Subscription]:
        """Returns the subscriptions whose wake stream is at a path."""
        return [self.by_id[id_] for id_ in self._watching.announcing(path)]

    def relative(self, path: str) -> str:
        """Returns a path as clients write it: below the stream root (PROTOCOL 6)."""
        return path.removeprefix(self.root + "/")

    def wake_name(self, subscription: Subscription, generation: int) -> str:
        """Returns the wake id of a generation, which no other wake of any subscription has or had."""
        return f"w_{subscription.incarnation:x}_{generation:x}_{self.opening}"

    def room(self, subscription: Subscription, more: int = 0, more_of_all: int = 0) -> int:
        """Returns how many more streams with news a subscription may have.

        Args:
            subscription: the subscription.
            more: cursors that it gains in a record that is being made.
            more_of_all: cursors that all subscriptions gain in that record.
        """
        is_scarce = self.kept + more_of_all >= self.max_cursors
        limit = min(self.few_due, self.max_due) if is_scarce else self.max_due
        return limit - len(subscription.due) - more

    def may_recall(self, subscription: Subscription, more: int = 0, more_of_all: int = 0) -> bool:
        """Whether missed streams may get cursors. Half of the room is for them, and half for streams that get news meanwhile."""
        count = len(subscription.due) + more
        return count < self.room(subscription, more, more_of_all)

    def to_take(self, limit: int) -> tuple[tuple[str, ...], int | None]:
        """Returns some of the subscriptions that the oldest news has not reached, and, if no others are left, the number of that
        news. Each is returned once, unless `feed.begin_again` is called. None may be returned although there are more: only so
        many are looked at in one call."""
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
        """Alters the newest state as a decided change says, and returns the subscription it is about, if it is about one."""
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
                self.feed.covered.discard(subscription.wake_stream)  # patterns may link it again
            self.kept -= len(subscription.cursors)
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
            change.id, change.incarnation, change.config, change.at, self.root
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
        """Has patterns and links be below another stream root."""
        self.root = root
        self.feed.covered.clear()
        self._begin_watching(root)
        for subscription in self.by_id.values():
            subscription.move(root)
            self._watching.add(subscription.id, subscription.config.pattern, *_paths(subscription))

    def _add(self, subscription: Subscription) -> None:
        self.by_id[subscription.id] = subscription
        self._watching.add(subscription.id, subscription.config.pattern, *_paths(subscription))
        self.feed.covered.clear()

    # -- keeping ------------------------------------------------------------

    def reached(self, change: SubscriptionChange) -> int:
        """Returns a steady time that had been reached when a change was decided, as far as the change tells; else 0.

        A lease lasts for no longer than the subscription says, and a delivery is put off for no longer than there is a limit.
        """
        if isinstance(change, Missed):
            return max(change.since, change.again)
        if not isinstance(change, WakeChanged) or change.wake is None:
            return 0
        subscription = self.by_id.get(change.id)
        if change.wake.lease_until is not None and subscription is not None:
            return change.wake.lease_until - subscription.config.lease_ttl * 1000
        if change.wake.next_attempt is not None:
            return change.wake.next_attempt - _LONGEST_RETRY
        return 0

    @staticmethod
    def document_of(change: SubscriptionChange) -> str:
        """Returns the name of the document that a change alters."""
        if isinstance(change, KeysKept):
            return _KEYS
        if isinstance(change, News | NewsTaken):
            return _NEWS
        return _PREFIX + change.id

    def document(self, name: str) -> bytes | None:
        """Returns a subscription, the keys, or the news, as a store keeps them; None for what is gone."""
        if name == _KEYS:
            return msgspec.msgpack.encode(self.keys)
        if name == _NEWS:
            return self.feed.document()
        subscription = self.by_id.get(name.removeprefix(_PREFIX))
        if subscription is None:
            return None
        return msgspec.msgpack.encode(
            _Kept(
                subscription.id,
                subscription.incarnation,
                subscription.config,
                subscription.created_at,
                tuple(subscription.links),
                subscription.cursors,
                subscription.generation,
                subscription.wake,
                subscription.begun_after,
                subscription.taken,
                subscription.misses,
            )
        )

    def restore(self, name: str, document: bytes) -> None:
        """Takes back what `document` gave."""
        if name == _KEYS:
            self.keys = msgspec.msgpack.decode(document, type=tuple[Key, ...])
            return
        if name == _NEWS:
            self.feed.restore(document)
            return
        kept = _DOCUMENT.decode(document)
        subscription = Subscription(
            kept.id, kept.incarnation, kept.config, kept.created_at, self.root
        )
        subscription.links = dict.fromkeys(kept.streams)
        subscription.due = kept.due
        subscription.move(self.root)
        subscription.begun_after = kept.begun_after
        subscription.taken = dict(kept.taken)
        subscription.generation = kept.generation
        subscription.wake = kept.wake
        subscription.misses = kept.misses
        known = self.by_id.get(kept.id)
        self.kept += len(kept.due) - (0 if known is None else len(known.cursors))
        self._add(subscription)


_DOCUMENT: Final = msgspec.msgpack.Decoder(_Kept)


def _paths(subscription: Subscription) -> tuple[Iterable[str], str | None]:
    return subscription.streams, subscription.wake_stream


def _whole(path: str, root: str) -> str:
    """Returns the whole path of one that is relative; one that was kept whole, below another root, stays as it is."""
    return path if path.startswith("/") else f"{root}/{path}"


def _below(path: str, root: str) -> str:
    """Returns a path relative to the root, if it is below it."""
    return path.removeprefix(root + "/")
