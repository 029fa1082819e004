"""What is known of one stream, and how each change alters it.

A `StreamState` is the newest state: what has been decided, durable or not. Decisions are made on it. What readers may see is
kept beside it (`visible_…`) and follows when the store has made the change durable.
"""

from collections.abc import Iterator
from typing import Protocol

import msgspec

from .ancestry import NONE, Ancestry, mint
from .lifetime import FOREVER, Lifetime, bounded
from .media import MediaType
from .offsets import Lineage
from .producers import Producers, ProducerState, Stamp
from .subscriptions.changes import SubscriptionChange
from .timeline import UNSET, Timeline
from .units import SECOND


class Origin(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Where a fork came from, in the words of the request that made it.

    Attributes:
        source: the source's path.
        incarnation: the source's incarnation at that time.
        anchor: the name of the fork offset; the source's tail then, if the request had none.
        sub_offset: bytes, or JSON values, past the anchor.
        position: where the fork diverges, in bytes.
    """

    source: str
    incarnation: int
    anchor: str
    sub_offset: int
    position: int


class StreamState:
    """The newest state of one incarnation of a path.

    Args:
        path: the stream's path.
        incarnation: its number.
        media: its content type.
        lifetime: when it ends by itself.
        created_at: microseconds of Unix time.
        origin: where it was forked, if it is a fork.
        lineage: what is kept with a fork of its ancestors.
        ancestry: all its ancestors; those of `lineage` if not given.
    """

    __slots__ = (
        "__weakref__",
        "_prefix",
        "ancestry",
        "children",
        "closed",
        "closed_by",
        "created_at",
        "damage",
        "grace",
        "incarnation",
        "last_seq",
        "lifetime",
        "lineage",
        "media",
        "mortal",
        "noted_at",
        "origin",
        "path",
        "producers",
        "readers",
        "removed",
        "soft_deleted",
        "tail",
        "timeline",
        "touched_at",
        "visible_closed",
        "visible_removed",
        "visible_soft_deleted",
        "visible_tail",
    )

    def __init__(
        self,
        path: str,
        incarnation: int,
        media: MediaType,
        lifetime: Lifetime,
        created_at: int,
        origin: Origin | None = None,
        lineage: Lineage = (),
        ancestry: Ancestry | None = None,
    ) -> None:
        self.path = path
        self.incarnation = incarnation
        self.media = media
        self.lifetime = lifetime
        self.timeline: Timeline = UNSET  # its store's, for a deadline that is a date
        self.mortal = lifetime != FOREVER  # whether it can end by itself
        self.created_at = created_at
        self.touched_at = created_at
        self.noted_at = created_at  # the last use that the store has written down
        self.grace = 0  # microseconds for reads before a restart that the store may not have noted
        self.origin = origin
        self.lineage = lineage
        self.ancestry = Ancestry.of(lineage) if ancestry is None else ancestry
        self.tail = origin.position if origin else 0
        self.closed = False
        self.closed_by: Stamp | None = None
        self.last_seq: bytes | None = None
        self.producers: Producers = {}
        self.children = 0  # forks that name this stream as their source
        self.soft_deleted = False
        self.removed = False
        self.damage: str | None = None  # what is wrong with its bytes in the store, if anything is
        self.readers = 0  # live readers attached; they keep a sliding lifetime from running out
        self.visible_tail = self.tail
        self.visible_closed = False
        self.visible_soft_deleted = False
        self.visible_removed = False
        self._prefix = f"{incarnation:016d}_"

    @property
    def base(self) -> int:
        """The position from which the stream's own bytes begin."""
        return self.origin.position if self.origin else 0

    def name(self, position: int) -> str:
        """Returns the offset that names `position`."""
        if position > self.ancestry.end:
            return self._prefix + str(position).zfill(16)
        return mint(self.incarnation, self.ancestry, position)

    def extents(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Yields whose bytes lie between two positions: incarnation, start, end, in order."""
        yield from self.ancestry.runs(start, end)
        start = max(start, self.ancestry.end)
        if start < end:
            yield self.incarnation, start, end

    def owned(self, position: int) -> tuple[int, int, int]:
        """Returns whose byte lies at a position, and the bounds of that owner's part of what readers see."""
        part = self.ancestry.owner(position + 1)
        if part is NONE:
            return self.incarnation, max(0, self.ancestry.end), self.visible_tail
        return part.incarnation, max(0, part.parent.end), part.end

    def deadline(self) -> int | None:
        """Returns when the stream expires if nobody uses it any more, in steady time, or None for never."""
        if self.readers and self.lifetime.ttl is not None:
            return None
        deadline = self.deadline_if_used(self.touched_at)
        return deadline if deadline is None else deadline + self.grace

    def deadline_if_used(self, at: int) -> int | None:
        """Returns when the stream expires if its last use is at `at`, in steady time, or None for never."""
        deadline = self.lifetime.deadline(at)
        if deadline is None or self.lifetime.expires_at is None:
            return deadline
        return deadline - self.timeline.offset

    def touch(self, now: int) -> None:
        """Begins a sliding lifetime anew."""
        now = bounded(now)
        if now >= self.touched_at:
            self.touched_at = now
            self.grace = 0

    def note(self, at: int) -> None:
        """As `touch`, for a use that is part of a change."""
        if at >= self.touched_at:
            self.touched_at = at
            self.grace = 0
        if at > self.noted_at:
            self.noted_at = at

    def append(self, change: "Appended") -> None:
        """Alters the newest state as an append of this stream says."""
        self.tail = change.start + len(change.data)
        self.note(change.at)
        if change.stamp is not None:
            producer, epoch, seq = change.stamp
            self.producers[producer] = ProducerState(epoch, seq)
        if change.seq is not None:
            self.last_seq = change.seq
        if change.closes:
            self.closed = True
            self.closed_by = change.stamp

    def expect_uses_before_a_restart(self) -> None:
        """Allows for reads that the store had not noted when it stopped: they are noted every tenth of the lifetime."""
        if self.lifetime.ttl is not None:
            self.grace = self.lifetime.ttl * SECOND // 10

    def expired(self, now: int) -> bool:
        """Whether the stream's time had run out at `now` (microseconds of steady time)."""
        if not self.mortal:
            return False
        deadline = self.deadline()
        return deadline is not None and now >= deadline

    def publish(self, change: "StreamChange") -> None:
        """Lets readers see a change of this stream: called by the store when it is durable."""
        if isinstance(change, Appended):
            self.visible_tail = change.start + len(change.data)
            if change.closes:
                self.visible_closed = True
        elif isinstance(change, SoftDeleted):
            self.visible_soft_deleted = True
        elif isinstance(change, Removed):
            self.visible_removed = True


class Unreadable(Exception):
    """What a store has kept of a stream cannot be read back."""


class Lookup(Protocol):
    """The newest states by path, as a decision sees them."""

    def get(self, path: str, /) -> StreamState | None:
        """Returns the newest state at a path; soft-deleted ones too.

        Raises:
            Unreadable: what is kept of the stream is damaged.
        """
        ...


class NewestStates(Lookup, Protocol):
    """The newest states by path, as `apply` changes them."""

    def __getitem__(self, path: str, /) -> StreamState:
        """Returns the newest state at a path, or raises KeyError."""
        ...

    def __setitem__(self, path: str, state: StreamState, /) -> None:
        """Adds the state of a created stream."""
        ...

    def __delitem__(self, path: str, /) -> None:
        """Drops the state of a removed stream."""
        ...


def readable_state(states: Lookup, path: str) -> StreamState | None:
    """Returns the newest state at a path, or None if there is no stream or the store cannot read it."""
    try:
        return states.get(path)
    except Unreadable:
        return None


class Created(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """A new incarnation begins. If it has an origin, its source gains a child.

    Its lineage is its own span; the source has the others. An earlier version wrote them all.
    """

    path: str
    incarnation: int
    media: MediaType
    lifetime: Lifetime
    at: int
    origin: Origin | None = None
    lineage: Lineage = ()

    def name(self, position: int) -> str:
        """Returns the offset that names a position from the fork point on."""
        return mint(self.incarnation, Ancestry.of(self.lineage), position)


class Appended(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    """Bytes, a producer's progress, a Stream-Seq and closure, all at once; any of them may be absent."""

    path: str
    incarnation: int
    start: int
    data: bytes
    closes: bool
    at: int
    stamp: Stamp | None = None
    seq: bytes | None = None


class SoftDeleted(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """The stream is gone for clients and kept for its forks (PROTOCOL 4.2)."""

    path: str
    incarnation: int


class Removed(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """The stream and its bytes are gone. If it had an origin, its source loses a child."""

    path: str
    incarnation: int


class Touched(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """The stream was read: its sliding lifetime began anew."""

    path: str
    incarnation: int
    at: int


StreamChange = Created | Appended | SoftDeleted | Removed | Touched
Change = StreamChange | SubscriptionChange


def apply(states: NewestStates, change: StreamChange) -> StreamState:
    """Alters the newest states as a decided change says, and returns the state of the stream it names."""
    if isinstance(change, Appended):
        state = states[change.path]
        state.append(change)
        return state
    if isinstance(change, Created):
        return _begin(states, change)
    state = states[change.path]
    if isinstance(change, Touched):
        state.note(change.at)
        return state
    if isinstance(change, SoftDeleted):
        state.soft_deleted = True
        return state
    state.removed = True
    del states[change.path]
    source = source_of(states, state.origin)
    if source is not None:
        source.children -= 1
    return state


def _begin(states: NewestStates, change: Created) -> StreamState:
    lineage, ancestry = change.lineage, None
    source, origin = source_of(states, change.origin), change.origin
    if source is not None and origin is not None:
        source.children += 1
        ancestry = source.ancestry.fork(source.incarnation, origin.position)
        lineage = (ancestry.span,)
    state = StreamState(
        change.path,
        change.incarnation,
        change.media,
        change.lifetime,
        change.at,
        origin,
        lineage,
        ancestry,
    )
    states[change.path] = state
    return state


def source_of(states: Lookup, origin: Origin | None) -> StreamState | None:
    """Returns the stream that a fork was made of; None for one that is no fork, or whose source a repair has put aside."""
    source = states.get(origin.source) if origin is not None else None
    if source is None or origin is None or source.incarnation != origin.incarnation:
        return None
    return source


def affected(states: Lookup, change: StreamChange) -> Iterator[StreamState]:
    """Yields the states that `apply` would alter: the stream's own, and its source's when a fork begins or ends."""
    state = states.get(change.path)
    if isinstance(change, Created):
        origin = change.origin
    else:
        if state is not None:
            yield state
        origin = state.origin if state is not None and isinstance(change, Removed) else None
    source = source_of(states, origin)
    if source is not None:
        yield source
