"""What a subscription is, and what may change of one. A change is part of the same record as the append that causes it."""

import hashlib
from typing import Literal

import msgspec

from ..offsets import Offset
from ..signing import Key

SubscriptionType = Literal["webhook", "pull-wake"]


class Config(msgspec.Struct, frozen=True, array_like=True):
    """What a client asked for, normalised (PROTOCOL 6.2).

    Its paths are relative to the stream root, which may be another one after a restart. An earlier version kept them whole,
    with a slash at the front.

    Attributes:
        kind: how workers are woken.
        pattern: a glob below the stream root, or None.
        streams: paths of explicitly linked streams, sorted, each once.
        webhook_url: where a webhook's deliveries go.
        wake_stream: the path of the stream that a pull-wake's events go to.
        lease_ttl: milliseconds that a worker may be silent.
        description: for people.
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
        """The hash that a repeated PUT is compared by."""
        return hashlib.sha256(msgspec.msgpack.encode(self)).digest()


class LinkedStream(msgspec.Struct, frozen=True, array_like=True):
    """One stream as a worker is told of it.

    Attributes:
        path: the stream's path.
        explicit: whether it is linked by name, which takes precedence over a pattern (PROTOCOL 6.1).
        acked: the acknowledged offset.
        tail: the offset after its last byte; the same as `acked` when there is no news.
    """

    path: str
    explicit: bool
    acked: str
    tail: str


Snapshot = tuple[LinkedStream, ...]


class Wake(msgspec.Struct, frozen=True, array_like=True):
    """A wake in flight: from the append that caused it until a worker is done, or its lease runs out (PROTOCOL 7).

    Attributes:
        wake_id: its name, unique among all wakes.
        holder: the worker that has claimed it.
        lease_until: microseconds of steady time until which a worker holds it; None while no lease runs.
        next_attempt: microseconds of steady time of a webhook's next delivery, or of a pull-wake's event; None once that is done.
        attempts: deliveries of it that have failed.
        begun_at: microseconds of steady time at which it began, or begins if it is put off.
        fruitless: how many wakes in a row before it have moved no cursor.
        cleared: how many streams its acks have brought to their tails.
        has_moved: whether its acks have moved any cursor.
        told: what a failed delivery has told, which the next attempt tells again (PROTOCOL 7.1: one `wake_id`, one snapshot).
        reason: why `status` is `failed`, in one word; None while all is well.
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
    told: Snapshot | None = None
    reason: str | None = None

    def is_over(self, now: int) -> bool:
        """Returns whether the wake's lease has ended at `now`, in microseconds of steady time."""
        return self.lease_until is not None and now >= self.lease_until

    def is_due(self, now: int) -> bool:
        """Returns whether the wake's next delivery or event is due at `now`, in microseconds of steady time."""
        return self.next_attempt is not None and now >= self.next_attempt

    @property
    def problem(self) -> str | None:
        """Why `status` is `failed`, also for a wake of an earlier version, which had no reason."""
        return self.reason or ("refused" if self.attempts else None)


class Subscribed(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """A subscription begins. Its incarnation tells it from an earlier one of the same id."""

    id: str
    incarnation: int
    config: Config
    at: int


class Unsubscribed(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """A subscription is deleted."""

    id: str
    incarnation: int


class Relinked(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """Explicit links are added or removed (PROTOCOL 6.4). Paths are relative to the stream root, as in `Config`."""

    id: str
    added: tuple[str, ...]
    removed: tuple[str, ...]


class CursorsMoved(msgspec.Struct, frozen=True, array_like=True, tag=9):
    """Streams have news for a subscription, or it has read further.

    Attributes:
        id: the subscription.
        cursors: paths, each with the offset that is acknowledged; None when that is the tail.
        taken: the stream root, and the number of the newest `News` below it that the subscription has taken; None if that has
            not changed.
    """

    id: str
    cursors: tuple[tuple[str, Offset | None], ...]
    taken: tuple[str, int] | None = None


class WakeChanged(msgspec.Struct, frozen=True, array_like=True, tag=10):
    """A wake begins, is claimed, delivered, put off, or ends (None).

    Attributes:
        id: the subscription.
        generation: the number of its newest wake.
        wake: the wake in flight.
        passed: how many of the first streams with news go to the end of the line, because the last wake has told of them.
    """

    id: str
    generation: int
    wake: Wake | None
    passed: int = 0


class KeysKept(msgspec.Struct, frozen=True, array_like=True, tag=11):
    """The server's keys are now these, the active one first."""

    keys: tuple[Key, ...]


class News(msgspec.Struct, frozen=True, array_like=True, tag=12):
    """A stream that a crowd of subscriptions watches has news, which each of them takes later, in a record of its own.

    Attributes:
        path: the stream.
        number: one more than that of the news before it.
        cursor: the offset at which the news begins; None when the stream has ended.
        at: microseconds of steady time of the append; 0 in a record of an earlier version.
    """

    path: str
    number: int
    cursor: Offset | None
    at: int = 0


class NewsTaken(msgspec.Struct, frozen=True, array_like=True, tag=13):
    """Every subscription that watches the stream has taken its news, so that it may be forgotten."""

    number: int


class Missed(msgspec.Struct, frozen=True, array_like=True, tag=14):
    """A subscription has no room for the cursor of a stream with news. A pass through all streams finds the stream later.

    Attributes:
        id: the subscription.
        since: microseconds of steady time of the earliest append that was missed; 0 when none is missed any more.
        again: the same of those that a pass may not find, because they were missed after it began; 0 if there are none.
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
