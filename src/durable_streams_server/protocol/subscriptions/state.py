"""What is known of every subscription, and how each change alters it.

A cursor is kept only for streams with news: every other stream's cursor is its tail. So a subscription to a million streams
costs what its backlog costs, and linking an existing stream at its tail costs nothing.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from ..names import DEFAULT_STREAM_ROOT, MAX_RETRY_DELAY, RETRY_JITTER
from ..offsets import Offset
from ..signing import Key
from .changes import (
    Config,
    CursorsMoved,
    KeysKept,
    Relinked,
    Subscribed,
    SubscriptionChange,
    Unsubscribed,
    Wake,
    WakeChanged,
)
from .globs import Globs, matches

_KEYS: Final = "keys"  # the names of documents
_PREFIX: Final = "subscription/"
_REMEMBERED: Final = 100_000  # paths whose watchers are remembered
_LONGEST_RETRY: Final = round(MAX_RETRY_DELAY * (1 + RETRY_JITTER) * 1_000_000)  # microseconds


class Subscription:
    """One incarnation of a subscription.

    Attributes:
        id: the client's name for it.
        incarnation: tells it from earlier ones of that id.
        config: as it was created.
        created_at: microseconds of Unix time.
        streams: paths of explicitly linked streams.
        due: streams with bytes past their cursor: path to acknowledged offset.
        generation: the number of its newest wake.
        wake: the wake in flight, if there is one.
    """

    __slots__ = (
        "config",
        "created_at",
        "due",
        "generation",
        "id",
        "incarnation",
        "streams",
        "wake",
    )

    def __init__(self, id_: str, incarnation: int, config: Config, created_at: int) -> None:
        self.id = id_
        self.incarnation = incarnation
        self.config = config
        self.created_at = created_at
        self.streams: dict[str, None] = dict.fromkeys(config.streams)
        self.due: dict[str, Offset] = {}
        self.generation = 0
        self.wake: Wake | None = None

    @property
    def status(self) -> str:
        """`failed` while a delivery waits to be tried again (PROTOCOL 6.3)."""
        return "failed" if self.wake is not None and self.wake.attempts else "active"


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


class Subscriptions:
    """All subscriptions of one store, and the server's keys.

    Attributes:
        by_id: them all.
        root: the stream root, below which patterns match.
        keys: the active one first.
    """

    def __init__(self, root: str = DEFAULT_STREAM_ROOT) -> None:
        self.keys: tuple[Key, ...] = ()
        self.root = root
        self.by_id: dict[str, Subscription] = {}
        self._globs: Globs[str] = Globs()
        self._explicit: dict[str, dict[str, None]] = {}
        self._announcing: dict[str, dict[str, None]] = {}
        self._watchers: dict[str, tuple[Subscription, ...]] = {}

    def __len__(self) -> int:
        return len(self.by_id)

    def __iter__(self) -> Iterator[Subscription]:
        return iter(self.by_id.values())

    def get(self, id_: str) -> Subscription | None:
        """Returns a subscription."""
        return self.by_id.get(id_)

    def watchers(self, path: str) -> tuple[Subscription, ...]:
        """Returns the subscriptions that a stream is linked to."""
        found = self._watchers.get(path)
        if found is None:
            if len(self._watchers) >= _REMEMBERED:
                self._watchers.clear()
            ids = dict.fromkeys(self._explicit.get(path, ()))
            if path not in self._announcing and path.startswith(self.root + "/"):
                ids.update(dict.fromkeys(self._globs.matching(self.relative(path))))
            found = self._watchers[path] = tuple(self.by_id[id_] for id_ in ids)
        return found

    def matches(self, subscription: Subscription, path: str) -> bool:
        """Whether a subscription's pattern links a stream. Wake streams are linked by no pattern, or wakes would cause wakes."""
        pattern = subscription.config.pattern
        return (
            pattern is not None
            and path.startswith(self.root + "/")
            and path not in self._announcing
            and matches(pattern, self.relative(path))
        )

    def announcing(self, path: str) -> list[Subscription]:
        """Returns the subscriptions whose wake stream is at a path."""
        return [self.by_id[id_] for id_ in self._announcing.get(path, ())]

    def relative(self, path: str) -> str:
        """Returns a path as clients write it: below the stream root (PROTOCOL 6)."""
        return path.removeprefix(self.root + "/")

    # -- changes ------------------------------------------------------------

    def apply(self, change: SubscriptionChange) -> Subscription | None:
        """Alters the newest state as a decided change says, and returns the subscription it is about."""
        if isinstance(change, Subscribed):
            subscription = Subscription(change.id, change.incarnation, change.config, change.at)
            self._add(subscription)
            return subscription
        if isinstance(change, KeysKept):
            self.keys = change.keys
            return None
        subscription = self.by_id[change.id]
        if isinstance(change, WakeChanged):
            subscription.generation = change.generation
            subscription.wake = change.wake
        elif isinstance(change, CursorsMoved):
            for path, offset in change.cursors:
                if offset is None:
                    subscription.due.pop(path, None)
                else:
                    subscription.due[path] = offset
        elif isinstance(change, Unsubscribed):
            self._remove(subscription)
        else:
            self._relink(subscription, change)
        return subscription

    def move(self, root: str) -> None:
        """Has patterns match below another stream root."""
        self.root = root
        self._watchers.clear()

    def _add(self, subscription: Subscription) -> None:
        config = subscription.config
        self.by_id[subscription.id] = subscription
        if config.pattern is not None:
            self._globs.add(config.pattern, subscription.id)
        if config.wake_stream is not None:
            self._announcing.setdefault(config.wake_stream, {})[subscription.id] = None
        for path in subscription.streams:
            self._explicit.setdefault(path, {})[subscription.id] = None
        self._watchers.clear()

    def _remove(self, subscription: Subscription) -> None:
        config = subscription.config
        del self.by_id[subscription.id]
        if config.pattern is not None:
            self._globs.remove(config.pattern, subscription.id)
        if config.wake_stream is not None:
            _discard(self._announcing, config.wake_stream, subscription.id)
        for path in subscription.streams:
            _discard(self._explicit, path, subscription.id)
        self._watchers.clear()

    def _relink(self, subscription: Subscription, change: Relinked) -> None:
        for path in change.added:
            subscription.streams[path] = None
            self._explicit.setdefault(path, {})[subscription.id] = None
            self._watchers.pop(path, None)
        for path in change.removed:
            subscription.streams.pop(path, None)
            _discard(self._explicit, path, subscription.id)
            self._watchers.pop(path, None)

    # -- keeping ------------------------------------------------------------

    def reached(self, change: SubscriptionChange) -> int:
        """Returns a steady time that had been reached when a change was decided, as far as the change tells; else 0.

        A lease lasts for no longer than the subscription says, and a delivery is put off for no longer than there is a limit.
        """
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
        return _KEYS if isinstance(change, KeysKept) else _PREFIX + change.id

    def document(self, name: str) -> bytes | None:
        """Returns a subscription, or the keys, as a store keeps them; None for one that is gone."""
        if name == _KEYS:
            return msgspec.msgpack.encode(self.keys)
        subscription = self.by_id.get(name.removeprefix(_PREFIX))
        if subscription is None:
            return None
        return msgspec.msgpack.encode(
            _Kept(
                subscription.id,
                subscription.incarnation,
                subscription.config,
                subscription.created_at,
                tuple(subscription.streams),
                subscription.due,
                subscription.generation,
                subscription.wake,
            )
        )

    def restore(self, name: str, document: bytes) -> None:
        """Takes back what `document` gave."""
        if name == _KEYS:
            self.keys = msgspec.msgpack.decode(document, type=tuple[Key, ...])
            return
        kept = _DOCUMENT.decode(document)
        subscription = Subscription(kept.id, kept.incarnation, kept.config, kept.created_at)
        subscription.streams = dict.fromkeys(kept.streams)
        subscription.due = kept.due
        subscription.generation = kept.generation
        subscription.wake = kept.wake
        self._add(subscription)


_DOCUMENT: Final = msgspec.msgpack.Decoder(_Kept)


def _discard(index: dict[str, dict[str, None]], path: str, id_: str) -> None:
    ids = index[path]
    ids.pop(id_, None)
    if not ids:
        del index[path]
