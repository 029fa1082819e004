"""The catalog's tables in LMDB. Only this file imports `lmdb`, and it translates LMDB's errors.

LMDB trusts its file, so a damaged page can crash the process. Before a `Database` opens a file, either `structure_faults` must have
found nothing, or the file must be known to be unchanged. LMDB maps its file into a fixed range of addresses. The range is small
at first, because some machines and process limits allow little address space, and it grows with the file.
"""

import errno
import itertools
import mmap
import os
import resource
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import lmdb
import lmdb.verify

from ...damage import Damaged
from .tables import NAMES, Tables, WriteTransaction

DATA: Final = "data.mdb"
LOCKS: Final = "lock.mdb"
SMALLEST_MAP: Final = 64 * 1024 * 1024  # bytes of address space, enough for about 300,000 streams
_STEP: Final = 16 * 1024 * 1024  # bytes by which the map grows if there is little address space
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


#: If fewer bytes than this are free, a failed write ran out of space.
_LITTLE_ROOM: Final = 1024 * 1024
_LOCKS_SIZE: Final = 8192  # bytes of LMDB's lock file, which has slots for 126 readers


class NoTablesYet(Exception):
    """A database that is opened read-only has no tables yet, because a crash interrupted its creation."""


class Database(Tables):
    """The tables of a catalog in an LMDB file.

    Args:
        path: the directory of the file. No other process may use it, because the lock file is recreated.
        readonly: whether `write` must raise OSError. The file must exist then.
        smallest_map: bytes of address space to map at first. The map is larger if the file needs more, and smaller if too little is free.

    Raises:
        Damaged: the file cannot be opened, or lacks a table.
        NoTablesYet: nothing was ever committed to the file, and it is opened read-only.
        OSError: there is no address space for the map, or the process may not open the file.
    """

    def __init__(
        self, path: str, *, readonly: bool = False, smallest_map: int = SMALLEST_MAP
    ) -> None:
        self._path = path
        self._map_lock = threading.Lock()  # held during each read, and while the map grows
        self._failure: OSError | None = None
        if not readonly:
            _recreate_lock_file(Path(path) / LOCKS)
        try:
            self._environment = self._open(readonly, smallest_map)
            try:
                self._handles = self._open_tables(readonly)
            except BaseException:
                self._environment.close()
                raise
        except lmdb.Error as error:
            raise self._translated(error) from None

    def get(self, table: int, key: bytes) -> bytes | None:
        try:
            with self._map_lock, self._environment.begin(self._handles[table]) as transaction:
                return transaction.get(key)
        except (lmdb.Error, MemoryError) as error:
            raise self._translated(error) from None

    def scan(
        self, table: int, first: bytes, limit: int, end: bytes | None = None
    ) -> list[tuple[bytes, bytes]]:
        found: list[tuple[bytes, bytes]] = []
        try:
            with (
                self._map_lock,
                self._environment.begin(self._handles[table]) as transaction,
                transaction.cursor() as cursor,
            ):
                more = cursor.set_range(first)
                while more and len(found) < limit:
                    item = cursor.item()
                    if end is not None and item[0] >= end:
                        break
                    found.append(item)
                    more = cursor.next()
        except (lmdb.Error, MemoryError) as error:
            raise self._translated(error) from None
        return found

    def count(self, table: int, first: bytes, end: bytes) -> int:
        try:
            with (
                self._map_lock,
                self._environment.begin(self._handles[table]) as transaction,
                transaction.cursor() as cursor,
            ):
                if not cursor.set_range(first):
                    return 0
                keys = cursor.iternext(keys=True, values=False)
                return sum(1 for _ in itertools.takewhile(end.__gt__, keys))
        except (lmdb.Error, MemoryError) as error:
            raise self._translated(error) from None

    def write(
        self,
        fill: Callable[[WriteTransaction], None],
        before_commit: Callable[[WriteTransaction], None],
    ) -> None:
        while True:
            try:
                self._try_to_write(fill, before_commit)
                return
            except lmdb.MapFullError:
                self._grow()
            except lmdb.Error as error:
                raise self._translated(error, writes=True) from None

    def close(self) -> None:
        self._environment.close()

    @property
    def map_size(self) -> int:
        """The size of the map in bytes of address space."""
        return int(self._environment.info()["map_size"])

    def can_find(self, table: int, entries: list[tuple[bytes, bytes]]) -> bool:
        """Returns whether a look-up of each key finds exactly the given value."""
        try:
            with self._map_lock, self._environment.begin(self._handles[table]) as transaction:
                return all(transaction.get(key) == sealed for key, sealed in entries)
        except lmdb.BadValsizeError:  # damage made the key empty or too long for LMDB
            return False
        except (lmdb.Error, MemoryError) as error:
            raise self._translated(error) from None

    # -- inside -------------------------------------------------------------

    def _open(self, readonly: bool, smallest_map: int) -> lmdb.Environment:
        """Opens the file with the largest of several map sizes that fits into the free address space."""
        file = Path(self._path) / DATA
        size = file.stat().st_size if file.exists() else 0
        sizes = (size + _STEP, size + 1024 * 1024)
        for map_size in (max(smallest_map, 2 * size), *sizes):
            try:
                return lmdb.open(
                    os.fsencode(self._path),
                    map_size=map_size,
                    max_dbs=len(NAMES),
                    mode=0o600,
                    readonly=readonly,
                    lock=not readonly,
                )
            except lmdb.MemoryError:
                continue
        raise OSError(errno.ENOMEM, "there is no room in memory for the catalog's map", str(file))

    def _open_tables(self, readonly: bool) -> "list[lmdb._Database]":
        """Opens the tables, and creates all of them in a new file in one transaction. Returns their handles."""
        names = [name.encode() for name in NAMES]
        with self._environment.begin() as transaction, transaction.cursor() as cursor:
            found = list(cursor.iternext(values=False))
        if set(found) - set(names):
            raise Damaged(f"catalog: {DATA} has tables of another kind")
        if missing := [name for name in names if name not in found]:
            if self._holds_anything(found):
                raise Damaged(f"catalog: {DATA} has no table {missing[0].decode()}")
            if readonly:
                raise NoTablesYet
            with self._environment.begin(write=True) as transaction:
                for name in missing:
                    self._environment.open_db(name, transaction)
        handles = [self._environment.open_db(name, create=False) for name in names]
        if any(any(handle.flags().values()) for handle in handles):
            raise Damaged(f"catalog: {DATA} has a table with flags that it should not have")
        return handles

    def _holds_anything(self, found: list[bytes]) -> bool:
        """Returns whether any of the existing tables has an entry.

        If none has, a crash interrupted the creation of the file. If one has, the file has lost its other tables.
        """
        for name in found:
            handle = self._environment.open_db(name, create=False)
            with self._environment.begin() as transaction:
                if transaction.stat(handle)["entries"]:
                    return True
        return False

    def _try_to_write(
        self,
        fill: Callable[[WriteTransaction], None],
        before_commit: Callable[[WriteTransaction], None],
    ) -> None:
        """Runs and commits one transaction, or aborts it if any step raises an error."""
        if self._failure is not None:
            raise self._failure
        transaction = self._environment.begin(write=True)
        try:
            wrapped = _LmdbTransaction(transaction, self._handles)
            fill(wrapped)
            before_commit(wrapped)
        except BaseException:
            transaction.abort()
            raise
        transaction.commit()

    def _grow(self) -> None:
        """Enlarges the map. The caller has no open transaction, and the lock keeps readers out meanwhile."""
        size = self.map_size
        for larger in (2 * size, size + size // 4, size + _STEP):
            larger -= larger % mmap.PAGESIZE
            if not _can_map(larger - size):
                continue
            with self._map_lock:
                try:
                    self._environment.set_mapsize(larger)
                    return
                except (
                    lmdb.Error
                ) as error:  # LMDB has removed the old map, so the environment is unusable
                    self._failure = OSError(errno.ENOMEM, str(error), self._data)
                    raise self._failure from None
        raise OSError(errno.ENOSPC, "there is no room in memory for a larger map", self._data)

    @property
    def _data(self) -> str:
        return str(Path(self._path) / DATA)

    def _translated(self, error: Exception, *, writes: bool = False) -> Exception:
        """Returns the error to raise for one of LMDB's errors. No error may look like an entry that does not exist.

        Args:
            error: the error of LMDB.
            writes: whether a write transaction raised it.
        """
        if self._failure is not None:
            return self._failure
        if isinstance(error, _NO_MEMORY):
            return OSError(errno.ENOMEM, str(error) or os.strerror(errno.ENOMEM), self._data)
        if isinstance(error, lmdb.ReadonlyError):
            return OSError(errno.EROFS, f"the catalog is read-only: {error}", self._data)
        code = getattr(error, "code", 0) or 0
        if (
            isinstance(error, lmdb.DiskError)
            or code in _FULL
            or (writes and self._ran_out_of_room(code))
        ):
            return OSError(errno.ENOSPC, str(error), self._data)
        if code > 0 and code != errno.EINVAL:
            return OSError(code, str(error), self._data)
        if writes and not isinstance(error, _DAMAGE):
            return OSError(errno.EIO, str(error), self._data)
        return Damaged(f"catalog: {error}")

    def _ran_out_of_room(self, code: int) -> bool:
        """Returns whether a commit failed because the disk or the file-size limit took only part of a write.

        LMDB reports that as an I/O error. Mistaking a true I/O error for it does no harm, because the next commit writes all its pages
        again.
        """
        if code != errno.EIO:
            return False
        room = os.statvfs(self._path)
        soft, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
        size = os.stat(self._data).st_size
        is_at_limit = soft != resource.RLIM_INFINITY and size > soft - _LITTLE_ROOM
        return is_at_limit or room.f_bavail * room.f_frsize < _LITTLE_ROOM


def _recreate_lock_file(file: Path) -> None:
    """Recreates LMDB's lock file, because LMDB may hang on a damaged one.

    This also reserves disk space for the file. LMDB writes to it through a memory map, so a full disk would crash the process.
    """
    file.unlink(missing_ok=True)
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, _LOCKS_SIZE)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(file)) from None
    finally:
        os.close(descriptor)


_NO_MEMORY: Final = (MemoryError, lmdb.MemoryError, lmdb.ReadersFullError, lmdb.TlsFullError)
_DAMAGE: Final = (
    lmdb.CorruptedError,
    lmdb.InvalidError,
    lmdb.PageNotFoundError,
    lmdb.PanicError,
    lmdb.VersionMismatchError,
)


class _LmdbTransaction(WriteTransaction):
    """A write transaction on LMDB tables."""

    def __init__(
        self, transaction: "lmdb.Transaction[bytes]", handles: "list[lmdb._Database]"
    ) -> None:
        super().__init__()
        self._transaction = transaction
        self._handles = handles

    def get(self, table: int, key: bytes) -> bytes | None:
        return self._transaction.get(key, db=self._handles[table])

    def keys(self, table: int, prefix: bytes) -> list[bytes]:
        found = []
        with self._transaction.cursor(self._handles[table]) as cursor:
            if cursor.set_range(prefix):
                for key in cursor.iternext(values=False):
                    if not key.startswith(prefix):
                        break
                    found.append(key)
        return found

    def store(self, table: int, key: bytes, sealed: bytes) -> None:
        self._transaction.put(key, sealed, db=self._handles[table])

    def remove(self, table: int, key: bytes) -> None:
        self._transaction.delete(key, db=self._handles[table])


def structure_faults(path: str) -> list[str]:
    """Returns the faults in the pages of a database's file, in words. The file is read without opening it in LMDB.

    Args:
        path: the directory of the file.

    Raises:
        OSError: the file cannot be read.
    """
    try:
        return list(lmdb.verify.verify(path, subdir=True))  # type: ignore[no-untyped-call]  # lmdb has no annotations for it
    except OSError:
        raise
    except Exception as error:  # damage can make the verifier itself fail
        return [str(error) or repr(error)]


def _can_map(size: int) -> bool:
    """Returns whether the process can map `size` more bytes. LMDB loses a map that fails to grow, so callers check this first."""
    try:
        mmap.mmap(-1, size, prot=mmap.PROT_READ).close()
    except (OSError, ValueError, OverflowError):
        return False
    return True
