"""The catalog of a data directory: LMDB's file `data.mdb`, the second `copy` of it, and the checksum `SUM`.

The file is verified before LMDB sees it, unless its checksum says that it is as the last commit left it. Damage that comes
while a server runs is not found at once: an entry's own CRC finds it in the entry, but LMDB trusts its pages. So the file is
verified again before each checksum is written, or the checksum would prove the damage, and no start would look for it.
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

_SHARE: Final = 50  # the checksum may take one part in so many of the time: a large file's is not made at each commit


class LmdbCatalog(TableCatalog):
    """The catalog in LMDB.

    Args:
        path: the directory of the database; made if it is not there.
        readonly: whether to look only: nothing is written, and no file of locks is made.
        clock: a monotonic clock, in seconds.

    Raises:
        Damaged: the database is.
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
        """Notes what the files are now.

        Raises:
            Damaged: the database has been damaged since it was opened.
            OSError: the disk failed.
        """
        state, tables = self._copy.state, self._tables
        if state is None or not isinstance(tables, Database):
            return
        began = self._clock()
        measured = sums.measure(self._data)
        if measured is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self._data))
        fault = next(all_faults(self._path, tables), None)  # of what was measured
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
    """The tables of a directory that no server has opened yet, to be looked at."""

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
    """Verifies and opens a database.

    Args:
        path: its directory.
        copy: its second copy, which has been looked at.
        readonly: whether to look only.
        is_proven: whether it need not be verified, since it has not changed.

    Raises:
        Damaged: it is, or it is missing where there should be one.
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
            fault = f"{DATA} has lost everything"  # the checksum is written after a commit only
        if fault is not None:
            tables.close()
            raise Damaged(f"catalog: {fault}")
    return tables
