"""The catalog on a `SimulatedDisk`: tables in memory, whose commit is whole, absent, or failed, and the real second copy."""

from collections.abc import Callable
from typing import Final

from ..storage.files.catalog.copy import Copy
from ..storage.files.catalog.table_catalog import TableCatalog
from ..storage.files.catalog.tables import NAMES, Tables, WriteTransaction
from .disk import SimulatedDisk

_Content = list[dict[bytes, bytes]]
_SMALLEST: Final = 4000  # bytes of a copy that is never written anew: a run should see it written
_PAGES = 512  # bytes that a commit copies for each change, before it gives back as many


class SimulatedTables(Tables):
    """Tables on the platter of a simulated disk."""

    def __init__(self, disk: SimulatedDisk) -> None:
        self._disk = disk
        if not isinstance(disk.catalog, list):
            disk.catalog = [{} for _ in NAMES]

    @property
    def content(self) -> _Content:
        """Every entry of every table."""
        content = self._disk.catalog
        assert isinstance(content, list)
        return content

    def get(self, table: int, key: bytes) -> bytes | None:
        return self.content[table].get(key)

    def scan(
        self, table: int, first: bytes, limit: int, end: bytes | None = None
    ) -> list[tuple[bytes, bytes]]:
        found = sorted(self.content[table].items())
        return [item for item in found if item[0] >= first and (end is None or item[0] < end)][
            :limit
        ]

    def write(
        self,
        fill: Callable[[WriteTransaction], None],
        before_commit: Callable[[WriteTransaction], None],
    ) -> None:
        self._disk.call("catalog begin")
        writing = _SimulatedWriting([dict(table) for table in self.content])
        fill(writing)
        self._disk.need(_PAGES * (1 + writing.count), "catalog")
        before_commit(writing)
        self._disk.call("catalog commit")
        self._disk.catalog = writing.content
        self._disk.call("catalog end")

    def close(self) -> None:
        return


class _SimulatedWriting(WriteTransaction):
    """A transaction on tables in memory."""

    def __init__(self, content: _Content) -> None:
        super().__init__()
        self.content = content
        self.count = 0  # entries written or removed

    def get(self, table: int, key: bytes) -> bytes | None:
        return self.content[table].get(key)

    def keys(self, table: int, prefix: bytes) -> list[bytes]:
        return sorted(key for key in self.content[table] if key.startswith(prefix))

    def store(self, table: int, key: bytes, sealed: bytes) -> None:
        self.content[table][key] = sealed
        self.count += 1

    def remove(self, table: int, key: bytes) -> None:
        self.content[table].pop(key, None)
        self.count += 1


class SimulatedCatalog(TableCatalog):
    """The catalog of a simulated disk."""

    def __init__(self, disk: SimulatedDisk) -> None:
        copy = Copy(disk, "catalog")
        copy.load()
        super().__init__(SimulatedTables(disk), copy, disk, smallest=_SMALLEST)
