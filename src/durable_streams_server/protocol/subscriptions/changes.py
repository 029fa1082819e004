"""The configuration of a subscription, its wakes, and the changes that a record can make to it.

A change is in the same record as the append that causes it.
"""

import hashlib
from typing import Literal

import msgspec

from ..offsets import Offset
from ..signing import Key

SubscriptionType = Literal["webhook", "pull-wake"]


class Config(msgspec.Struct, frozen=True, array_like=True):
    """The configuration of a subscription, as a client requested it, in normal form (PROTOCOL 6.2).

    Paths are relative to the stream root, which may change with a restart. An earlier version kept absolute paths, which begin
    with a slash.

    Attributes:
        kind: the type of the subscription, which says how workers are woken.
        pattern: a glob pattern below the stream root, or None.
        streams: the paths of explicitly linked streams, sorted and without duplicates.
        webhook_url: the URL that receives a webhook's deliveries, or None.
        wake_stream: the path of the stream that receives a pull-wake's events, or None.
        lease_ttl: the duration of a lease in milliseconds.
        description: a text for people, or None.
    """

    kind: SubscriptionType
    pattern: str | None
    streams: tuple[str, ...]
    webhook_url: str | None
    wake_stream: str | None
    lease_ttl: int
    description: str | None

    @property
    def digest(self) -> bytes:
        """The hash by which a repeated PUT is compared with the existing subscription."""
        return hashlib.sha256(msgspec.msgpack.encode(self)).digest()


class LinkedStream(msgspec.Struct, frozen=True, array_like=True):
    """One stream of a subscription, as the server describes it to workers.

    Attributes:
        path: the stream's path.
        explicit: whether the stream is linked explicitly, which takes precedence over a pattern (PROTOCOL 6.1).
        acked: the acknowledged offset.
        tail: the offset of the tail, equal to `acked` if no bytes are unread.
    """

    path: str
    explicit: bool
    acked: str
    tail: str


Snapshot = tuple[LinkedStream, ...]


class Wake(msgspec.Struct, frozen=True, array_like=True):
    """A wake in flight, from the append that caused it until a worker is done or its lease ends (PROTOCOL 7).

    All times are microseconds of steady time.

    Attributes:
        wake_id: the id of the wake, unique among all wakes.
        holder: the worker that has claimed the wake, or None.
        lease_until: the end of the lease, or None while there is no lease.
        next_attempt: the time of a webhook's next delivery or of a pull-wake's event, or None once that has succeeded.
        attempts: the number of failed deliveries.
        begun_at: the time at which the wake began, or will begin if it is put off.
        fruitless: the number of consecutive wakes before this one that moved no cursor.
        cleared: the number of streams whose cursors the worker's acks have moved to the tail.
        has_moved: whether the worker's acks have moved a cursor.
        snapshot: the snapshot that a failed delivery contained, or None. The retry sends the same snapshot, because one wake id stands
            for one snapshot (PROTOCOL 7.1).
        reason: the reason why the subscription's `status` is `failed`, in one word, or None while it is `active`.
    """

    wake_id: str
    holder: str | None = None
    lease_until: int | None = None
    next_attempt: int | None = None
    attempts: int = 0
    begun_at: int = 0
    fruitless: int = 0
    cleared: int = 0
    has_moved: bool = False
    snapshot: Snapshot | None = None
    reason: str | None = None

    def is_over(self, now: int) -> bool:
        """Returns whether the wake's lease has ended at `now`, in microseconds of steady time."""
        return self.lease_until is not None and now >= self.lease_until

    def is_due(self, now: int) -> bool:
        """Returns whether the wake's next delivery or event is due at `now`, in microseconds of steady time."""
        return self.next_attempt is not None and now >= self.next_attempt

    @property
    def problem(self) -> str | None:
        """The reason why the subscription's `status` is `failed`, or None. Wakes of an earlier version have no stored reason."""
        return self.reason or ("refused" if self.attempts else None)


class Subscribed(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """A change that creates a subscription.

    Attributes:
        id: the id of the subscription.
        incarnation: the number that distinguishes the subscription from earlier ones with the same id.
        config: the configuration of the subscription.
        at: the time of its creation, in microseconds of Unix time.
        owner: the client that creates the subscription, or None without access control or in a record of an earlier version.
    """

    id: str
    incarnation: int
    config: Config
    at: int
    owner: str | None = None


class Unsubscribed(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """A change that deletes a subscription."""

    id: str
    incarnation: int


class Relinked(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """A change that adds or removes explicit links (PROTOCOL 6.4). Paths are relative to the stream root."""

    id: str
    added: tuple[str, ...]
    removed: tuple[str, ...]


class CursorsMoved(msgspec.Struct, frozen=True, array_like=True, tag=9):
    """A change that moves the cursors of a subscription.

    Attributes:
        id: the id of the subscription.
        cursors: pairs of a path and its acknowledged offset, or None instead of the offset if it is the tail.
        taken: the stream root and the number of the newest feed entry below it that was applied to the subscription, or None if
            the number has not changed.
    """

    id: str
    cursors: tuple[tuple[str, Offset | None], ...]
    taken: tuple[str, int] | None = None


class WakeChanged(msgspec.Struct, frozen=True, array_like=True, tag=10):
    """A change that begins, alters or ends the wake in flight.

    Attributes:
        id: the id of the subscription.
        generation: the number of the subscription's newest wake.
        wake: the wake in flight, or None if it has ended.
        passed: the number of streams at the front of the queue that move to its end, because the last wake listed them.
    """

    id: str
    generation: int
    wake: Wake | None
    passed: int = 0


class KeysKept(msgspec.Struct, frozen=True, array_like=True, tag=11):
    """A change that replaces the server's signing keys. The active key comes first."""

    keys: tuple[Key, ...]


class News(msgspec.Struct, frozen=True, array_like=True, tag=12):
    """A change that adds an entry to the feed: an append to a stream that too many subscriptions watch.

    The entry is applied to each of these subscriptions later, in other records.

    Attributes:
        path: the path of the stream.
        number: the number of the entry, one more than that of the entry before it.
        cursor: the offset at which the append begins, or None if the stream has ended.
        at: the time of the append, in microseconds of steady time, or 0 in a record of an earlier version.
    """

    path: str
    number: int
    cursor: Offset | None
    at: int = 0


class NewsTaken(msgspec.Struct, frozen=True, array_like=True, tag=13):
    """A change that drops an entry from the feed, because it was applied to every watcher of the stream."""

    number: int


class Missed(msgspec.Struct, frozen=True, array_like=True, tag=14):
    """A change that records when a full subscription missed appends. A recall pass finds the streams of the appends later.

    A subscription is full if it has no room for another cursor. Both times are microseconds of steady time.

    Attributes:
        id: the id of the subscription.
        since: the time of the earliest missed append, or 0 if none is missed any more.
        again: the time of the earliest append that was missed after the present recall pass began, or 0 if there is none.
        root: the stream root below which the streams are.
    """

    id: str
    since: int
    again: int
    root: str


SubscriptionChange = (
    Subscribed
    | Unsubscribed
    | Relinked
    | CursorsMoved
    | WakeChanged
    | KeysKept
    | News
    | NewsTaken
    | Missed
)
