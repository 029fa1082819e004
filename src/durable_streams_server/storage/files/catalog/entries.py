"""The entries of the catalog, and `Catalog`, the interface through which a store reads and writes them.

The catalog has the state of every stream as of one record of the write-ahead log. Only checkpoints write the catalog, each in one
transaction. Applying the records after the LSN in `Meta` gives the newest states.
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

#: Added to a deadline that is a date, to sort it after all other deadlines. Dates follow the wall clock and idle times follow steady
#: time, so the two must not be mixed. Every idle time sorts before `DATES_BEGIN`, and every date that can be written sorts after it.
DATES: Final = 1 << 62
DATES_BEGIN: Final = 1 << 61
#: The number of producers in an entry whose producers nobody has counted, and the number of bytes in metadata of an older version.
UNCOUNTED: Final = -1
NO_DOCUMENTS: Final[Mapping[str, bytes | None]] = MappingProxyType({})


class Meta(msgspec.Struct, frozen=True, array_like=True):
    """Catalog metadata, current as of `lsn`.

    Attributes:
        lsn: the LSN of the last record whose changes are in the catalog.
        last_incarnation: the newest incarnation that any stream ever had.
        session: number of times that the directory has been opened.
        streams: number of streams in the catalog.
        aside: incarnations that a repair has removed. Later records about them are skipped.
        commits: number of commits so far; 0 if the catalog has no second copy yet.
        identity: a random number that the database and its second copy share; 0 before the first commit.
        wall_offset: microseconds by which the wall clock is ahead of steady time.
        steady: the latest steady time in microseconds that is known to have passed.
        boot: the id of the boot of the machine during which `base` was measured; "" if unknown.
        base: microseconds to add to the monotonic clock of that boot to get steady time.
        stored: bytes of all streams in the catalog, without those that forks inherit; `UNCOUNTED` if an older version wrote the catalog.
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
    stored: int = UNCOUNTED

    @property
    def clock(self) -> tuple[int, str, int]:
        """The fields with which a restarted server continues steady time: `wall_offset`, `boot` and `base`."""
        return self.wall_offset, self.boot, self.base


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The catalog entry of one stream. Its producers have entries of their own.

    Attributes:
        session: the session in which `touched_at` was last exact; 0 if unknown.
        children: number of forks of the stream.
        index_entries: number of proven entries in the index of the stream's log.
        producers: number of producers; `UNCOUNTED` if unknown.
        public: whether anyone may read the stream without a token.
    """

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
    producers: int = UNCOUNTED  # older versions did not store the number
    public: bool = False  # older versions had no public streams

    @property
    def extent(self) -> Extent:
        """The part of the stream's log that is proven to be durable."""
        return Extent(self.origin.position if self.origin else 0, self.tail, self.index_entries)

    @property
    def size(self) -> int:
        """The bytes of the stream, without those that a fork inherits."""
        return self.tail - (self.origin.position if self.origin else 0)

    @property
    def deadline(self) -> int | None:
        """The number by which the catalog sorts the stream's deadline, as `place_of` computes it; None if there is no deadline."""
        return None if self.soft_deleted else place_of(self.lifetime, self.touched_at)

    @property
    def older_deadline(self) -> int | None:
        """The number by which older versions sorted the stream's deadline. They did not separate dates from idle times."""
        return None if self.soft_deleted else self.lifetime.deadline(self.touched_at)


def place_of(lifetime: Lifetime, touched_at: int) -> int | None:
    """Returns the number by which the catalog sorts a stream's deadline, or None if the stream has no deadline.

    The number is a steady time in microseconds for idle times, and `DATES` plus the Unix time in microseconds for dates.
    """
    deadline = lifetime.deadline(touched_at)
    if deadline is None:
        return None
    place = min(deadline, DATES_BEGIN - 1)  # an earlier version may have stored any number
    return place if lifetime.expires_at is None else DATES + place


class Put(msgspec.Struct, frozen=True, gc=False):
    """A catalog change that writes a stream's entry, and the producers that have advanced since it was last written."""

    path: str
    entry: Entry
    producers: dict[bytes, ProducerState]


class Drop(msgspec.Struct, frozen=True, gc=False):
    """A catalog change that removes a stream."""

    path: str
    incarnation: int


class Catalog(ABC):
    """The interface of the catalog of one data directory."""

    @abstractmethod
    def meta(self) -> Meta:
        """Returns the catalog's metadata.

        Raises:
            Damaged: the metadata entry is damaged.
        """

    @abstractmethod
    def stored_bytes(self) -> int:
        """Returns the bytes of all streams. Reads the entry of each stream if an older version wrote the catalog.

        Raises:
            Damaged: the metadata or an entry is damaged.
        """

    @abstractmethod
    def count_again(self) -> None:
        """Counts the streams and their bytes, and writes both numbers to the metadata.

        Raises:
            Damaged: an entry is damaged.
            OSError: nothing has changed.
        """

    @abstractmethod
    def find(self, path: str) -> Entry | None:
        """Returns the entry of the stream at a path, or None if there is no such stream.

        Raises:
            Damaged: the entry is damaged.
        """

    @abstractmethod
    def producers(self, incarnation: int) -> dict[bytes, ProducerState]:
        """Returns the state of each producer of a stream."""

    @abstractmethod
    def producer(self, incarnation: int, name: bytes, /) -> ProducerState | None:
        """Returns the state of one producer of a stream, or None if the stream has no such producer.

        Raises:
            Damaged: the producer's entry is damaged.
        """

    @abstractmethod
    def count_producers(self, incarnation: int, /) -> int:
        """Returns the number of producers of a stream."""

    @abstractmethod
    def paths(
        self, damaged: Callable[[Damaged], None] | None = None, /, first: str = ""
    ) -> Iterator[tuple[str, Entry]]:
        """Yields the path and the entry of each stream, in the order of paths.

        Args:
            damaged: called with the error of each damaged entry, which is then skipped.
            first: the path at which the iteration begins.

        Raises:
            Damaged: an entry is damaged, and `damaged` is None.
        """

    @abstractmethod
    def deadlines(
        self, after: tuple[int, int], until: int, limit: int
    ) -> list[tuple[int, int, str]]:
        """Returns the next streams in the order of deadlines.

        Args:
            after: the deadline and the incarnation of the last stream that the caller has seen.
            until: the latest deadline to return.
            limit: maximum number of streams to return.

        Returns:
            The deadline, the incarnation and the path of each stream.
        """

    @abstractmethod
    def next_deadline(self, after: tuple[int, int]) -> int | None:
        """Returns the first deadline after a (deadline, incarnation) pair, or None if there is none."""

    @abstractmethod
    def garbage(self) -> list[int]:
        """Returns the incarnations of deleted streams whose logs still exist."""

    @abstractmethod
    def documents(self) -> Iterator[tuple[str, bytes]]:
        """Yields the name and the content of each document, in the order of names.

        Raises:
            Damaged: a document is damaged.
        """

    @abstractmethod
    def commit(
        self,
        meta: Meta,
        changes: list[Put | Drop],
        removed: list[int],
        documents: Mapping[str, bytes | None] = NO_DOCUMENTS,
    ) -> None:
        """Writes changes to the catalog durably, either all of them or none.

        Args:
            meta: the new metadata. The catalog sets `streams`, `stored`, `commits` and `identity` itself.
            changes: streams to write or to remove.
            removed: incarnations whose logs have been removed, so that they are no longer garbage.
            documents: new contents of documents by name; None deletes a document.

        Raises:
            OSError: nothing has changed.
        """

    @abstractmethod
    def tidy(self) -> None:
        """Does slow work that commits postpone, such as rewriting a second copy that is too long or missing.

        The caller runs this on a thread that may block.

        Raises:
            OSError: the disk failed. A full disk is no failure.
        """

    @abstractmethod
    def close(self) -> None:
        """Closes the catalog."""


def entry_of(state: StreamState, index_entries: int, session: int) -> Entry:
    """Returns the catalog entry of a stream.

    Args:
        state: the stream's newest state.
        index_entries: number of entries in the index of its log.
        session: the current session.
    """
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
        state.public,
    )


def label_of_entry(path: str, entry: Entry) -> Label:
    """Returns the header for the index of a stream's log.

    Args:
        path: the stream's path.
        entry: the stream's catalog entry.
    """
    return Label(
        entry.incarnation,
        entry.extent.base,
        path,
        entry.media,
        entry.lifetime,
        entry.created_at,
        entry.origin,
        entry.lineage,
        entry.public,
    )


def _count_of(producers: Producers) -> int:
    """Returns the number of producers of a stream, or `UNCOUNTED` if nobody has counted those in the catalog."""
    count = producers.count if isinstance(producers, StoredProducers) else len(producers)
    return UNCOUNTED if count is None else count


def producers_of(entry: Entry, catalog: Catalog, tally: Tally) -> StoredProducers:
    """Returns the producers of a stream, which are read from the catalog when they are needed."""
    count = None if entry.producers == UNCOUNTED else entry.producers
    return StoredProducers(catalog, entry.incarnation, count, tally)


def state_of(path: str, entry: Entry, session: int) -> StreamState:
    """Returns the state of a stream, as stored in its catalog entry. Everything in the entry is durable, so readers may see it.

    Args:
        path: the stream's path.
        entry: the stream's entry.
        session: the current session. An entry of another session may lack recent uses of the stream.
    """
    state = StreamState(
        path,
        entry.incarnation,
        entry.media,
        entry.lifetime,
        entry.created_at,
        entry.origin,
        entry.lineage,
        public=entry.public,
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
