"""Compares catalog entries with each other: deadlines with the list of deadlines, and sources with their forks."""

from collections.abc import Iterator

from ..catalog import Catalog, Entry
from .findings import Finding


class CrossReferences:
    """Collects deadlines, sources and numbers of forks from catalog entries, and finds entries that contradict each other.

    Add every entry of the catalog before calling the other methods.
    """

    def __init__(self) -> None:
        self._deadlines: dict[tuple[int, int], str] = {}
        self._older: dict[tuple[int | None, int], int] = {}
        self._forks: dict[tuple[str, int], int] = {}  # source -> number of entries that name it
        self._counts: dict[tuple[str, int], int] = {}  # source -> number of forks in its entry

    def add(self, path: str, entry: Entry) -> None:
        """Adds the catalog entry of the stream at a path."""
        if entry.deadline is not None:
            self._deadlines[entry.deadline, entry.incarnation] = path
            self._older[entry.older_deadline, entry.incarnation] = entry.deadline
        if entry.children:
            self._counts[path, entry.incarnation] = entry.children
        if entry.origin is not None:
            source = entry.origin.source, entry.origin.incarnation
            self._forks[source] = self._forks.get(source, 0) + 1

    def agree_with_deadlines(self, catalog: Catalog) -> bool:
        """Returns whether the catalog's list of deadlines has exactly the deadlines of the added entries.

        Raises:
            Damaged: the list cannot be read.
        """
        stored = {
            (self._older.get((at, incarnation), at), incarnation): path
            for at, incarnation, path in catalog.deadlines((0, 0), 1 << 63, 1 << 62)
        }
        return stored == self._deadlines

    def fork_faults(self) -> Iterator[Finding]:
        """Yields a fault for each source that does not exist, and for each stream whose entry has a wrong number of forks."""
        for (path, incarnation), count in self._counts.items():
            if self._forks.get((path, incarnation), 0) != count:
                yield Finding("catalog", "the number of its forks is wrong", path)
        for path, incarnation in self._forks:
            if (path, incarnation) not in self._counts:
                yield Finding("catalog", "forks name it as their source, but it is not there", path)
