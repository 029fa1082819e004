"""What the catalog holds, and what the store may ask of it.

The catalog says what every stream was at one record of the log. Checkpoints alone write it, one transaction each, and it is
true for the LSN in its `Meta`: the log's records after that bring it up to date.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from ....protocol.lifetime import Lifetime
from ....protocol.media import MediaType
from ....protocol.offsets import Lineage
from ....protocol.producers import Producers, ProducerState, Stamp
from ....protocol.state import Origin, StreamState
from ...damage import Damaged
from ..index import Label
from ..log_layout import Extent
from ..producers import StoredProducers, Tally

#: Dates and idle times go by different clocks, so the order of deadlines has a part for each. Every idle time is before the
#: dates' part begins, and that has room for every date that can be written.
DATES: Final = 1 << 62
DATES_BEGIN: Final = 1 << 61
#: The number of a stream's producers where nobody has counted them.
UNCOUNTED: Final = -1
NO_DOCUMENTS: Final[Mapping[str, bytes | None]] = MappingProxyType({})


class Meta(msgspec.Struct, frozen=True, array_like=True):
    """Catalog metadata, current as of `lsn`.

    Attributes:
        lsn: the last record whose changes the catalog holds.
        last_incarnation: the newest incarnation ever given out.
        session: how often the directory has been opened.
        streams: how many streams it holds.
        aside: incarnations that a repair has put aside; later records about them are passed over.
        commits: how many commits have made it; 0 in a directory whose catalog has no second copy yet.
        identity: a random number that the database and its second copy share; 0 before the first commit.
        wall_offset: microseconds by which the wall clock is ahead of steady time.
        steady: a steady time that had been reached.
        boot: names the boot of the machine that `base` is of; "" if nothing does.
        base: what to add to that boot's ticks for steady time.
    """

    lsn: int = 0
    last_incarnation: int = 0
    session: int = 0
    streams: int = 0
    aside: tuple[int, ...] = ()
    commits: int = 0
    identity: int = 0
    wall_offset: int = 0
    steady: int = 0
    boot: str = ""
    base: int = 0

    @property
    def clock(self) -> tuple[int, str, int]:
        """How steady time is carried on."""
        return self.wall_offset, self.boot, self.base


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One stream, without its producers. `session` is the one in which `touched_at` was last exact; 0 if unknown."""

    incarnation: int
    media: MediaType
    lifetime: Lifetime
    created_at: int
    touched_at: int
    session: int
    origin: Origin | None
    lineage: Lineage
    tail: int
    closed: bool
    closed_by: Stamp | None
    last_seq: bytes | None
    children: int
    soft_deleted: bool
    index_entries: int
    producers: int = UNCOUNTED  # as older versions have left it

    @property
    def extent(self) -> Extent:
        """What of its log is proven."""
        return Extent(self.origin.position if self.origin else 0, self.tail, self.index_entries)

    @property
    def deadline(self) -> int | None:
        """Its place in the order of deadlines, as `place_of` says; None if it has none."""
        return None if self.soft_deleted else place_of(self.lifetime, self.touched_at)

    @property
    def older_deadline(self) -> int | None:
        """Where older versions have put its deadline: dates stood among the idle times."""
        return None if self.soft_deleted else self.lifetime.deadline(self.touched_at)


def place_of(lifetime: Lifetime, touched_at: int) -> int | None:
    """Returns the place of a deadline in the catalog's order: steady time, or `DATES` and the date; None for no deadline."""
    deadline = lifetime.deadline(touched_at)
    if deadline is None:
        return None
    place = min(deadline, DATES_BEGIN - 1)  # an earlier version may have written any number
    return place if lifetime.expires_at is None else DATES + place


class Put(msgspec.Struct, frozen=True, gc=False):
    """A stream as it is now, with the producers that have made progress since it was last written."""

    path: str
    entry: Entry
    producers: dict[bytes, ProducerState]


class Drop(msgspec.Struct, frozen=True, gc=False):
    """A stream that is gone."""

    path: str
    incarnation: int


class Catalog(ABC):
    """The database of a data directory."""

    @abstractmethod
    def meta(self) -> Meta:
        """Returns the catalog's metadata.

        Raises:
            Damaged: its entry is.
        """

    @abstractmethod
    def find(self, path: str) -> Entry | None:
        """Looks up a stream.

        Raises:
            Damaged: the entry is.
        """

    @abstractmethod
    def producers(self, incarnation: int) -> dict[bytes, ProducerState]:
        """Returns a stream's producers."""

    @abstractmethod
    def producer(self, incarnation: int, name: bytes, /) -> ProducerState | None:
        """Looks up one producer of a stream.

        Raises:
            Damaged: its entry is.
        """

    @abstractmethod
    def count_producers(self, incarnation: int, /) -> int:
        """Returns how many producers a stream has."""

    @abstractmethod
    def paths(
        self, damaged: Callable[[Damaged], None] | None = None, /
    ) -> Iterator[tuple[str, Entry]]:
        """Iterates over all streams in the order of their paths.

        Args:
            damaged: told of an entry that is, which is passed over then.

        Raises:
            Damaged: an entry is, and nobody is to be told.
        """

    @abstractmethod
    def deadlines(
        self, after: tuple[int, int], until: int, limit: int
    ) -> list[tuple[int, int, str]]:
        """Returns (deadline, incarnation, path) of streams past the pair `after` with deadlines up to `until`, in order."""

    @abstractmethod
    def next_deadline(self, after: tuple[int, int]) -> int | None:
        """Returns the first deadline past the pair `after`."""

    @abstractmethod
    def garbage(self) -> list[int]:
        """Returns the incarnations whose logs are still to be removed."""

    @abstractmethod
    def documents(self) -> Iterator[tuple[str, bytes]]:
        """Iterates over the documents of subscriptions, by name.

        Raises:
            Damaged: one of them is.
        """

    @abstractmethod
    def commit(
        self,
        meta: Meta,
        changes: list[Put | Drop],
        removed: list[int],
        documents: Mapping[str, bytes | None] = NO_DOCUMENTS,
    ) -> None:
        """Makes changes durable, all or none: streams put or dropped, garbage that has been `removed`, and documents; one that is
        None goes. The catalog counts its streams and commits itself, whatever `meta` says of them.

        Raises:
            OSError: nothing has changed.
        """

    @abstractmethod
    def tidy(self) -> None:
        """Does what commits leave for later, on a thread that may wait: the second copy is made shorter, or made again.

        Raises:
            OSError: the disk failed; never because it is full.
        """

    @abstractmethod
    def close(self) -> None:
        """Closes the database."""


def entry_of(state: StreamState, index_entries: int, session: int) -> Entry:
    """Returns the entry that stands for a state."""
    return Entry(
        state.incarnation,
        state.media,
        state.lifetime,
        state.created_at,
        state.touched_at,
        0 if state.grace else session,
        state.origin,
        state.lineage,
        state.tail,
        state.closed,
        state.closed_by,
        state.last_seq,
        state.children,
        state.soft_deleted,
        index_entries,
        _count_of(state.producers),
    )


def words_of_entry(path: str, entry: Entry) -> Label:
    """Returns the index header of a stream that is in the catalog."""
    return Label(
        entry.incarnation,
        entry.extent.base,
        path,
        entry.media,
        entry.lifetime,
        entry.created_at,
        entry.origin,
        entry.lineage,
    )


def _count_of(producers: Producers) -> int:
    """Returns how many producers a stream has, as far as that is known without counting."""
    count = producers.count if isinstance(producers, StoredProducers) else len(producers)
    return UNCOUNTED if count is None else count


def producers_of(entry: Entry, catalog: Catalog, tally: Tally) -> StoredProducers:
    """Returns the producers of the stream that an entry stands for."""
    count = None if entry.producers == UNCOUNTED else entry.producers
    return StoredProducers(catalog, entry.incarnation, count, tally)


def state_of(path: str, entry: Entry, session: int) -> StreamState:
    """Returns the state that an entry stands for, as readers may see it."""
    state = StreamState(
        path,
        entry.incarnation,
        entry.media,
        entry.lifetime,
        entry.created_at,
        entry.origin,
        entry.lineage,
    )
    state.touched_at = state.noted_at = entry.touched_at
    if entry.session != session:
        state.expect_uses_before_a_restart()
    state.tail = state.visible_tail = entry.tail
    state.closed = state.visible_closed = entry.closed
    state.closed_by = entry.closed_by
    state.last_seq = entry.last_seq
    state.children = entry.children
    state.soft_deleted = state.visible_soft_deleted = entry.soft_deleted
    return state
