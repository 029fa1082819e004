"""The catalog of a data directory: the LMDB file `data.mdb`, its second copy `copy`, and the checksum `SUM`.

The LMDB file is verified before LMDB opens it, unless it matches the checksum of the last commit. LMDB trusts its pages, and the CRC of
an entry covers only that entry. So damage to a page may stay unnoticed while a server runs. The file is therefore verified again
before each new checksum is written. Otherwise the checksum would match the damaged file, and no server would verify it when it starts.
"""

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ....log import log as _log
from ...damage import Damaged
from ..disk import NO_SPACE
from ..system_disk import SystemDisk
from . import sums
from .copy import Copy
from .database import DATA, Database, NoTablesYet, structure_faults
from .table_catalog import TableCatalog
from .tables import META, META_KEY, Tables, WriteTransaction
from .verify import all_faults, entry_faults, was_committed

#: Checksums may take 1/50 of the time, so the checksum of a large file is written less often.
_SHARE: Final = 50


class LmdbCatalog(TableCatalog):
    """A catalog in LMDB.

    Args:
        path: the directory of the database, which is created if it does not exist.
        readonly: whether the catalog must not be changed. No lock file is created then.
        clock: returns a monotonic time in seconds.

    Raises:
        Damaged: the database is damaged.
        OSError: the disk failed.
    """

    def __init__(
        self, path: str, *, readonly: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._path = path
        self._clock = clock
        self._readonly = readonly
        self._sum_is_due = False
        self._sum_after = clock()
        self._files = SystemDisk(path, readonly=readonly)
        if not readonly:
            self._files.make_directory("")
        known = sums.read(self._files)
        is_proven = known is not None and sums.measure(self._data) == (known.size, known.crc)
        copy = Copy(self._files)
        try:
            copy.load(known.copy if is_proven and known is not None else None)
            tables = open_tables(path, copy, readonly=readonly, is_proven=is_proven)
            try:
                super().__init__(tables, copy, self._files, readonly=readonly)
            except BaseException:
                tables.close()
                raise
        except BaseException:
            copy.close()
            raise
        self._sum_is_due = not is_proven or copy.state != known.copy if known else True

    def tidy(self) -> None:
        super().tidy()
        if self._sum_is_due and self._clock() >= self._sum_after:
            self._write_sum()

    def close(self) -> None:
        try:
            if self._sum_is_due and not self._readonly:
                self._write_sum()
        except Damaged as damage:
            _log.error("%s; the next start will refuse it", damage)
        except OSError as error:
            _log.debug("the next start will verify the catalog: %s", error)
        finally:
            super().close()

    def _write(self, fill: Callable[[WriteTransaction], None]) -> None:
        self._sum_is_due = True
        super()._write(fill)

    @property
    def _data(self) -> Path:
        return Path(self._path) / DATA

    def _write_sum(self) -> None:
        """Verifies the database and writes its checksum. If the disk is full, the old checksum stays.

        Raises:
            Damaged: the database was damaged after it had been opened.
            OSError: the disk failed.
        """
        state, tables = self._copy.state, self._tables
        if state is None or not isinstance(tables, Database):
            return
        began = self._clock()
        measured = sums.measure(self._data)
        if measured is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self._data))
        # This must follow `measure`, so that the measured bytes are verified.
        fault = next(all_faults(self._path, tables), None)
        if fault is not None:
            raise Damaged(f"catalog: {DATA} was damaged while it was in use: {fault}")
        try:
            sums.write(self._files, sums.Sum(*measured, state))
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise
            return
        self._sum_is_due = False
        now = self._clock()
        self._sum_after = now + _SHARE * (now - began)


class EmptyTables(Tables):
    """Read-only tables without entries, for a directory that no server has opened yet."""

    def get(self, *_: object) -> None:
        return None

    def scan(self, *_: object) -> list[tuple[bytes, bytes]]:
        return []

    def write(self, *_: object) -> None:
        raise OSError(errno.EROFS, "the catalog is read-only")

    def close(self) -> None:
        return


def open_tables(
    path: str, copy: Copy, *, readonly: bool = False, is_proven: bool = False
) -> Tables:
    """Verifies the database of a catalog and opens it.

    Args:
        path: the directory of the database.
        copy: the catalog's second copy, already loaded.
        readonly: whether the database must not be changed.
        is_proven: whether a checksum has shown that the database has not changed, so that it need not be verified.

    Raises:
        Damaged: the database is damaged, or it is missing although it was committed to.
        OSError: the disk failed.
    """
    data = Path(path) / DATA
    if not data.exists() or not data.stat().st_size:
        if was_committed(path, copy):
            raise Damaged(f"catalog: {DATA} is missing or empty, but it has been committed to")
        return EmptyTables() if readonly else Database(path)
    if not is_proven and (faults := structure_faults(path)):
        raise Damaged(f"catalog: {DATA} is damaged: {faults[0]}")
    try:
        tables = Database(path, readonly=readonly)
    except NoTablesYet:
        return EmptyTables()
    if not is_proven:
        fault = next(entry_faults(tables), None)
        is_new = tables.get(META, META_KEY) is None and not copy.newest
        if fault is None and is_new and (Path(path) / sums.NAME).exists():
            fault = f"{DATA} has lost everything"  # the checksum is written only after a commit
        if fault is not None:
            tables.close()
            raise Damaged(f"catalog: {fault}")
    return tables
