"""A catalog in memory, on a `SimulatedDisk`: a commit is whole, absent, or failed."""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

import msgspec

from ..protocol.producers import ProducerState
from ..storage.files.catalog import Catalog, Drop, Entry, Meta, Put
from ..storage.files.wal import Damaged
from .disk import SimulatedDisk


class _Tables:
    """What is on the platter."""

    def __init__(self) -> None:
        self.meta = Meta()
        self.streams: dict[str, Entry] = {}
        self.producers: dict[int, dict[bytes, ProducerState]] = {}
        self.garbage: set[int] = set()
        self.documents: dict[str, bytes] = {}


class SimulatedCatalog(Catalog):
    """The catalog of a simulated disk."""

    def __init__(self, disk: SimulatedDisk) -> None:
        self._disk = disk
        if not isinstance(disk.catalog, _Tables):
            disk.catalog = _Tables()
        self._tables: _Tables = disk.catalog

    def meta(self) -> Meta:
        return self._tables.meta

    def find(self, path: str) -> Entry | None:
        return self._tables.streams.get(path)

    def producers(self, incarnation: int) -> dict[bytes, ProducerState]:
        return dict(self._tables.producers.get(incarnation, {}))

    def paths(self, _: Callable[[Damaged], None] | None = None, /) -> Iterator[tuple[str, Entry]]:
        yield from sorted(self._tables.streams.items())

    def deadlines(
        self, after: tuple[int, int], until: int, limit: int
    ) -> list[tuple[int, int, str]]:
        return [item for item in self._deadlines(after) if item[0] <= until][:limit]

    def next_deadline(self, after: tuple[int, int]) -> int | None:
        return next((item[0] for item in self._deadlines(after)), None)

    def garbage(self) -> list[int]:
        return sorted(self._tables.garbage)

    def documents(self) -> Iterator[tuple[str, bytes]]:
        yield from sorted(self._tables.documents.items())

    def commit(
        self,
        meta: Meta,
        changes: list[Put | Drop],
        removed: list[int],
        documents: Mapping[str, bytes | None] = MappingProxyType({}),
    ) -> None:
        self._disk.call("catalog begin")
        tables = self._tables
        tables.meta = meta
        for change in changes:
            if isinstance(change, Put):
                tables.streams[change.path] = change.entry
                tables.producers.setdefault(change.entry.incarnation, {}).update(change.producers)
                continue
            entry = tables.streams.get(change.path)
            if entry is not None and entry.incarnation == change.incarnation:
                del tables.streams[change.path]
            tables.producers.pop(change.incarnation, None)
            tables.garbage.add(change.incarnation)
        tables.garbage.difference_update(removed)
        for name, document in documents.items():
            if document is None:
                tables.documents.pop(name, None)
            else:
                tables.documents[name] = document
        tables.meta = msgspec.structs.replace(meta, streams=len(tables.streams))
        self._disk.call("catalog end")

    def close(self) -> None:
        return

    def _deadlines(self, after: tuple[int, int]) -> list[tuple[int, int, str]]:
        found = [
            (entry.deadline, entry.incarnation, path)
            for path, entry in self._tables.streams.items()
            if entry.deadline is not None
        ]
        return sorted(item for item in found if item[:2] > after)
