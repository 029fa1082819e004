"""The state of one stream, the changes that a record can make to it, and how each change alters the state.

A `StreamState` holds the newest state, which includes changes that are not durable yet. Decisions use the newest state. The fields
`visible_…` hold the state that readers see, which follows once the store has made a change durable.
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
    """The source and the fork point of a fork, as in the request that created it.

    Attributes:
        source: the path of the source.
        incarnation: the incarnation of the source.
        anchor: the fork offset, or the source's tail at that time if the request had no offset.
        sub_offset: the number of bytes, or of JSON values, after the anchor.
        position: the fork point as a byte position.
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
        incarnation: the number of this incarnation.
        media: the content type.
        lifetime: the lifetime.
        created_at: the time of creation, in microseconds of steady time.
        origin: the source and the fork point, or None if the stream is not a fork.
        lineage: the spans that the store keeps with a fork.
        ancestry: all ancestors, or None if `lineage` has them all.
        public: whether anyone may read the stream without a token.
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
        "public",
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
        public: bool = False,
    ) -> None:
        self.path = path
        self.incarnation = incarnation
        self.media = media
        self.lifetime = lifetime
        self.timeline: Timeline = UNSET  # the store's timeline, for deadlines that are dates
        self.mortal = lifetime != FOREVER  # whether the stream can expire
        self.created_at = created_at
        self.touched_at = created_at
        self.noted_at = created_at  # the last use that the store has recorded
        self.grace = 0  # microseconds added to the deadline, because reads before a restart may not have been recorded
        self.origin = origin
        self.public = public
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
        # A description of the damage to its bytes in the store, or None.
        self.damage: str | None = None
        self.readers = 0  # attached live readers, which keep a sliding lifetime from ending
        self.visible_tail = self.tail
        self.visible_closed = False
        self.visible_soft_deleted = False
        self.visible_removed = False
        self._prefix = f"{incarnation:016d}_"

    @property
    def base(self) -> int:
        """The position of the first byte that is not inherited from a source."""
        return self.origin.position if self.origin else 0

    def name(self, position: int) -> str:
        """Returns the offset that names a position in this stream."""
        if position > self.ancestry.end:
            return self._prefix + str(position).zfill(16)
        return mint(self.incarnation, self.ancestry, position)

    def extents(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Yields the incarnation, start and end of each part between two positions, in order."""
        yield from self.ancestry.runs(start, end)
        start = max(start, self.ancestry.end)
        if start < end:
            yield self.incarnation, start, end

    def owned(self, position: int) -> tuple[int, int, int]:
        """Returns the incarnation that wrote the byte at a position, and the start and end of that incarnation's visible part."""
        part = self.ancestry.owner(position + 1)
        if part is NONE:
            return self.incarnation, max(0, self.ancestry.end), self.visible_tail
        return part.incarnation, max(0, part.parent.end), part.end

    def deadline(self) -> int | None:
        """Returns the steady time at which the stream expires if it is not used again, or None if it never expires."""
        if self.readers and self.lifetime.ttl is not None:
            return None
        deadline = self.deadline_if_used(self.touched_at)
        return deadline if deadline is None else deadline + self.grace

    def deadline_if_used(self, at: int) -> int | None:
        """Returns the steady time at which the stream would expire after a last use at `at`, or None if it never expires."""
        deadline = self.lifetime.deadline(at)
        if deadline is None or self.lifetime.expires_at is None:
            return deadline
        return deadline - self.timeline.offset

    def touch(self, now: int) -> None:
        """Restarts a sliding lifetime at `now`."""
        now = bounded(now)
        if now >= self.touched_at:
            self.touched_at = now
            self.grace = 0

    def note(self, at: int) -> None:
        """Restarts a sliding lifetime at the time of a use that the store has recorded."""
        if at >= self.touched_at:
            self.touched_at = at
            self.grace = 0
        if at > self.noted_at:
            self.noted_at = at

    def append(self, change: "Appended") -> None:
        """Applies an append to the newest state."""
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
        """Extends a sliding lifetime by a tenth, because the store may not have recorded the last reads before a restart.

        The store records a use at most once in a tenth of the lifetime.
        """
        if self.lifetime.ttl is not None:
            self.grace = self.lifetime.ttl * SECOND // 10

    def expired(self, now: int) -> bool:
        """Returns whether the stream has expired at `now`, in microseconds of steady time."""
        if not self.mortal:
            return False
        deadline = self.deadline()
        return deadline is not None and now >= deadline

    def publish(self, change: "StreamChange") -> None:
        """Makes a change of this stream visible to readers. The store calls this once the change is durable."""
        if isinstance(change, Appended):
            self.visible_tail = change.start + len(change.data)
            if change.closes:
                self.visible_closed = True
        elif isinstance(change, SoftDeleted):
            self.visible_soft_deleted = True
        elif isinstance(change, Removed):
            self.visible_removed = True


class Unreadable(Exception):
    """Raised when a store cannot read its data about a stream."""


class Lookup(Protocol):
    """A mapping of the newest states by path, which decisions use."""

    def get(self, path: str, /) -> StreamState | None:
        """Returns the newest state at a path, which may be soft-deleted, or None.

        Raises:
            Unreadable: the store's data about the stream is damaged.
        """
        ...


class NewestStates(Lookup, Protocol):
    """A mutable mapping of the newest states by path, which `apply` changes."""

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
    """A change that begins a new incarnation. If the stream is a fork, its source gains a child.

    The lineage of a fork has only its newest span, because the source has the others. An earlier version recorded all spans, and did not
    record whether a stream is public, because none was.
    """

    path: str
    incarnation: int
    media: MediaType
    lifetime: Lifetime
    at: int
    origin: Origin | None = None
    lineage: Lineage = ()
    public: bool = False

    def name(self, position: int) -> str:
        """Returns the offset that names a position at or after the fork point."""
        return mint(self.incarnation, Ancestry.of(self.lineage), position)


class Appended(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    """A change that can append bytes, advance a producer, set Stream-Seq and close the stream, all at once."""

    path: str
    incarnation: int
    start: int
    data: bytes
    closes: bool
    at: int
    stamp: Stamp | None = None
    seq: bytes | None = None


class SoftDeleted(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """A change that deletes a stream for clients, and keeps its bytes for its forks (PROTOCOL 4.2)."""

    path: str
    incarnation: int


class Removed(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """A change that removes a stream and its bytes. If the stream was a fork, its source loses a child."""

    path: str
    incarnation: int


class Touched(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """A change that records a read, which restarts a sliding lifetime."""

    path: str
    incarnation: int
    at: int


StreamChange = Created | Appended | SoftDeleted | Removed | Touched
Change = StreamChange | SubscriptionChange


def apply(states: NewestStates, change: StreamChange) -> StreamState:
    """Applies a change to the newest states, and returns the state of the stream that it names."""
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
        change.public,
    )
    states[change.path] = state
    return state


def source_of(states: Lookup, origin: Origin | None) -> StreamState | None:
    """Returns the state of a fork's source, or None if there is no origin or a repair has removed the source."""
    source = states.get(origin.source) if origin is not None else None
    if source is None or origin is None or source.incarnation != origin.incarnation:
        return None
    return source


def affected(states: Lookup, change: StreamChange) -> Iterator[StreamState]:
    """Yields the states that `apply` would alter: that of the stream, and that of its source if a fork begins or ends."""
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
