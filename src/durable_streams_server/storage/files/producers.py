"""A stream's producers: those of the last moments in memory, all others in the catalog, where they are looked up one at a time.

A stream may have 100,000 producers. To load them all would hold the loop for a quarter of a second, and to keep them for all
streams would take memory without bound. So a look-up that memory cannot answer asks the catalog, which takes microseconds.

What a producer has done since the last checkpoint is `fresh`. A checkpoint takes it, and keeps it readable until the catalog
has it:

    take()      fresh -> taken     a checkpoint takes the stream's state
    written()   taken -> nothing   the catalog has it
    keep()      taken -> fresh     the checkpoint has failed
"""

from collections.abc import Iterator
from typing import Final, Protocol

from ...protocol.producers import ProducerState

#: RecentCache that one fresh producer takes: its id, its state, and its place in a dict.
COST: Final = 250


class Shelf(Protocol):
    """The catalog, as far as producers are concerned."""

    def producer(self, incarnation: int, name: bytes, /) -> ProducerState | None:
        """Looks up one producer of a stream."""
        ...

    def producers(self, incarnation: int, /) -> dict[bytes, ProducerState]:
        """Returns all producers of a stream."""
        ...

    def count_producers(self, incarnation: int, /) -> int:
        """Returns how many producers a stream has."""
        ...


class Tally:
    """How many producers' states are in memory because no checkpoint has written them, over all streams of a store."""

    __slots__ = ("fresh", "taken")

    def __init__(self) -> None:
        self.fresh = 0
        self.taken = 0

    def take(self) -> None:
        """Notes that a checkpoint begins, which takes all that is fresh."""
        self.taken, self.fresh = self.fresh, 0

    def end(self, *, is_written: bool) -> None:
        """Notes that a checkpoint has ended."""
        if not is_written:
            self.fresh += self.taken
        self.taken = 0

    @property
    def all(self) -> int:
        """How many there are."""
        return self.fresh + self.taken


class StoredProducers:
    """The producers of one stream.

    Args:
        shelf: the catalog.
        incarnation: the stream's.
        count: how many producers it has; None if nobody knows yet. They are counted when a new one comes.
        tally: counts the fresh ones of all streams.
    """

    __slots__ = ("_absent", "_fresh", "_incarnation", "_shelf", "_taken", "_tally", "count")

    def __init__(self, shelf: Shelf, incarnation: int, count: int | None, tally: Tally) -> None:
        self._shelf = shelf
        self._incarnation = incarnation
        self._tally = tally
        self._fresh: dict[bytes, ProducerState] = {}
        self._taken: dict[bytes, ProducerState] | None = None
        self._absent: bytes | None = None  # the last one that was looked up and is not known
        self.count = count

    def get(self, name: bytes, /) -> ProducerState | None:
        """Returns what is known of a producer.

        Raises:
            Damaged: its entry in the catalog is.
        """
        found = self._fresh.get(name)
        if found is None and self._taken:
            found = self._taken.get(name)
        if found is None:
            if self.count != 0:
                found = self._shelf.producer(self._incarnation, name)
            if found is None:
                self._absent = name
        return found

    def __getitem__(self, name: bytes) -> ProducerState:
        found = self.get(name)
        if found is None:
            raise KeyError(name)
        return found

    def __setitem__(self, name: bytes, state: ProducerState) -> None:
        if name not in self._fresh:
            if self._absent == name or self.get(name) is None:
                self.count = len(self) + 1
            self._tally.fresh += 1
        self._absent = None
        self._fresh[name] = state

    def __len__(self) -> int:
        """Returns how many there are. While nobody knows, all are in the catalog: each new one is counted."""
        if self.count is None:
            self.count = self._shelf.count_producers(self._incarnation)
        return self.count

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.all())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, StoredProducers):
            return self.all() == other.all()
        return self.all() == other

    __hash__ = None  # type: ignore[assignment]  # as of a dict

    def all(self) -> dict[bytes, ProducerState]:
        """Returns all of them, for those who look at a store from outside."""
        return {**self._shelf.producers(self._incarnation), **(self._taken or {}), **self._fresh}

    # -- checkpoints --------------------------------------------------------

    def take(self) -> dict[bytes, ProducerState]:
        """Returns what is fresh, for a checkpoint to write."""
        taken, self._fresh = self._fresh, {}
        self._taken = taken or None
        return taken

    def written(self) -> None:
        """Forgets what was taken: the catalog has it."""
        self._taken = None

    def keep(self) -> None:
        """Takes back what was taken: the catalog does not have it."""
        if self._taken:
            self._taken.update(self._fresh)  # which are few: it has not been fresh for long
            self._fresh = self._taken
        self._taken = None
