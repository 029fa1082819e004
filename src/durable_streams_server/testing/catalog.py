"""The catalog on a simulated disk: tables in memory whose commit happens completely or not at all.

The second copy of the catalog uses the real code, and writes files on the simulated disk.
"""

from collections.abc import Callable
from typing import Final

from ..storage.files.catalog.copy import Copy
from ..storage.files.catalog.table_catalog import TableCatalog
from ..storage.files.catalog.tables import NAMES, Tables, WriteTransaction
from .disk import SimulatedDisk

_Content = list[dict[bytes, bytes]]
#: A copy of fewer bytes is never rewritten. The limit is low, so that rewrites happen in tests.
_SMALLEST: Final = 4000
#: Bytes that a commit needs for each change until it frees the pages that it has replaced.
_PAGES: Final = 512


class SimulatedTables(Tables):
    """Catalog tables that a simulated disk keeps.

    Args:
        disk: the disk.
    """

    def __init__(self, disk: SimulatedDisk) -> None:
        self._disk = disk
        if not isinstance(disk.catalog, list):
            disk.catalog = [{} for _ in NAMES]

    @property
    def content(self) -> _Content:
        """The entries of each table."""
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
    """A transaction on tables in memory.

    Args:
        content: a copy of the tables, which the transaction changes.
    """

    def __init__(self, content: _Content) -> None:
        super().__init__()
        self.content = content
        self.count = 0  # the number of entries that were written or removed

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
    """The catalog of a simulated disk.

    Args:
        disk: the disk.
    """

    def __init__(self, disk: SimulatedDisk) -> None:
        copy = Copy(disk, "catalog")
        copy.load()
        super().__init__(SimulatedTables(disk), copy, disk, smallest=_SMALLEST)
