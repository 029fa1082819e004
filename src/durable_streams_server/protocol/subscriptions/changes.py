"""What a subscription is, and what may change of one. A change is part of the same record as the append that causes it."""

import hashlib
from typing import Literal

import msgspec

from ..offsets import Offset
from ..signing import Key

Kind = Literal["webhook", "pull-wake"]


class Config(msgspec.Struct, frozen=True, array_like=True):
    """What a client asked for, normalised (PROTOCOL 6.2).

    Attributes:
        kind: how workers are woken.
        pattern: a glob below the stream root, or None.
        streams: paths of explicitly linked streams, sorted, each once.
        webhook_url: where a webhook's deliveries go.
        wake_stream: the path of the stream that a pull-wake's events go to.
        lease_ttl: milliseconds that a worker may be silent.
        description: for people.
    """

    kind: Kind
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


class Wake(msgspec.Struct, frozen=True, array_like=True):
    """A wake in flight: from the append that caused it until a worker is done, or its lease runs out (PROTOCOL 7).

    Attributes:
        wake_id: its name, unique among all wakes.
        holder: the worker that has claimed it.
        lease_until: microseconds of steady time until which a worker holds it; None while no lease runs.
        next_attempt: microseconds of steady time of a webhook's next delivery; None once it was delivered.
        attempts: deliveries of it that have failed.
    """

    wake_id: str
    holder: str | None = None
    lease_until: int | None = None
    next_attempt: int | None = None
    attempts: int = 0


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
    """Explicit links are added or removed (PROTOCOL 6.4)."""

    id: str
    added: tuple[str, ...]
    removed: tuple[str, ...]


class CursorsMoved(msgspec.Struct, frozen=True, array_like=True, tag=9):
    """Streams have news for a subscription, or it has read further.

    Attributes:
        id: the subscription.
        cursors: paths, each with the offset that is acknowledged; None when that is the tail.
    """

    id: str
    cursors: tuple[tuple[str, Offset | None], ...]


class WakeChanged(msgspec.Struct, frozen=True, array_like=True, tag=10):
    """A wake begins, is claimed, delivered, put off, or ends (None)."""

    id: str
    generation: int
    wake: Wake | None


class KeysKept(msgspec.Struct, frozen=True, array_like=True, tag=11):
    """The server's keys are now these, the active one first."""

    keys: tuple[Key, ...]


SubscriptionChange = Subscribed | Unsubscribed | Relinked | CursorsMoved | WakeChanged | KeysKept
