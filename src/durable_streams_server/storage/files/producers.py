"""Keeps the producers of a stream: recently changed ones in memory, and all others in the catalog.

A stream may have 100,000 producers. Loading all of them would block the event loop for 250 ms, and keeping them for all streams would take
unbounded memory. So a producer that is not in memory is looked up in the catalog, which takes microseconds.

A producer's state that changed since the last checkpoint is fresh. When a checkpoint captures the stream, it takes the fresh states. They
stay readable in memory until they are in the catalog:

    take_fresh()     fresh -> taken      a checkpoint captures the stream
    forget_taken()   taken -> removed    the catalog has the states
    give_back()      taken -> fresh      the checkpoint has failed
"""

from collections.abc import Iterator
from typing import Final, Protocol

from ...protocol.producers import ProducerState

#: Bytes of memory that one fresh producer takes: its id, its state, and its place in a dict.
COST: Final = 250


class Shelf(Protocol):
    """The methods of the catalog that read producers."""

    def producer(self, incarnation: int, name: bytes, /) -> ProducerState | None:
        """Returns the state of one producer of a stream; None if the catalog does not have it."""
        ...

    def producers(self, incarnation: int, /) -> dict[bytes, ProducerState]:
        """Returns the states of all producers of a stream, by producer id."""
        ...

    def count_producers(self, incarnation: int, /) -> int:
        """Returns how many producers a stream has."""
        ...


class Tally:
    """Counts the producers' states of all streams of a store that are in memory because no checkpoint has written them.

    Attributes:
        fresh: number of states that no checkpoint has taken.
        taken: number of states that the running checkpoint has taken.
    """

    __slots__ = ("fresh", "taken")

    def __init__(self) -> None:
        self.fresh = 0
        self.taken = 0

    def take(self) -> None:
        """Counts all fresh states as taken, because a checkpoint begins."""
        self.taken, self.fresh = self.fresh, 0

    def end(self, *, is_written: bool) -> None:
        """Ends the count of taken states after a checkpoint. They count as fresh again unless the catalog has them."""
        if not is_written:
            self.fresh += self.taken
        self.taken = 0

    @property
    def all(self) -> int:
        """The number of fresh and taken states."""
        return self.fresh + self.taken


class StoredProducers:
    """Keeps the producers of one stream.

    Args:
        shelf: the catalog.
        incarnation: the stream's incarnation.
        count: the number of producers; None if it is unknown. Then the producers are counted when a new one is added.
        tally: counts the fresh states of all streams.
    """

    __slots__ = ("_absent", "_fresh", "_incarnation", "_shelf", "_taken", "_tally", "count")

    def __init__(self, shelf: Shelf, incarnation: int, count: int | None, tally: Tally) -> None:
        self._shelf = shelf
        self._incarnation = incarnation
        self._tally = tally
        self._fresh: dict[bytes, ProducerState] = {}
        self._taken: dict[bytes, ProducerState] | None = None
        self._absent: bytes | None = None  # the last producer that a look-up did not find
        self.count = count

    def get(self, name: bytes, /) -> ProducerState | None:
        """Returns a producer's state; None if the stream does not have the producer.

        Raises:
            Damaged: the producer's entry in the catalog is damaged.
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
        """Returns the number of producers. If the number is unknown, counts the producers in the catalog first."""
        if self.count is None:
            self.count = self._shelf.count_producers(self._incarnation)
        return self.count

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.all())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, StoredProducers):
            return self.all() == other.all()
        return self.all() == other

    __hash__ = None  # type: ignore[assignment]  # not hashable, like a dict

    def all(self) -> dict[bytes, ProducerState]:
        """Returns the states of all producers. Only tools and tests call this, because a stream may have very many producers."""
        return {**self._shelf.producers(self._incarnation), **(self._taken or {}), **self._fresh}

    # -- checkpoints --------------------------------------------------------

    def take_fresh(self) -> dict[bytes, ProducerState]:
        """Takes the fresh states for a checkpoint, and returns them."""
        taken, self._fresh = self._fresh, {}
        self._taken = taken or None
        return taken

    def forget_taken(self) -> None:
        """Removes the taken states from memory, because the catalog has them."""
        self._taken = None

    def give_back(self) -> None:
        """Makes the taken states fresh again, because the checkpoint has failed."""
        if self._taken:
            self._taken.update(
                self._fresh
            )  # few, because they became fresh after the checkpoint began
            self._fresh = self._taken
        self._taken = None
