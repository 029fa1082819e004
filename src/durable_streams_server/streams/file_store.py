"""`FileBackedStreamStore`: the file store with plain functions on it, the same as `StreamStore` has."""

import os
import types
from types import TracebackType
from typing import Any, Self

from ..protocol.arguments import OPTIONAL_INT, require, require_callable
from ..protocol.limits import DEFAULT_MAX_PRODUCERS
from ..protocol.subscriptions.state import Subscriptions
from ..storage.files import forked, workers
from ..storage.files.catalog import Catalog, LmdbCatalog
from ..storage.files.directory import CATALOG, DirectoryInUse, DirectoryRefused, prepare
from ..storage.files.headroom import give_way
from ..storage.files.store import FileStore
from ..storage.files.system_disk import SystemDisk
from ..storage.files.wal_sizes import DEFAULT_SIZE, MAX_SIZE, MIN_SIZE, segment_size_of
from ..storage.ticket import Ticket
from .clock import Clock, system_clock
from .forked_copy import ForkedCopy, RefusedCalls
from .synchronous import SynchronousStore


class FileBackedStreamStore(SynchronousStore, FileStore):
    """Streams in a data directory: what is acknowledged survives any crash.

    It belongs to this process until `close`, which `with` calls. A plain `append` returns when its bytes are durable. In the
    child of a `fork()` the copy of an open store refuses everything with StoreForked, and `close` does nothing there.

    Args:
        path: the data directory; made if it is not there.
        create: False refuses a directory without a store, such as a mount that is not mounted.
        wal_size: bytes of the write-ahead log, from 6 MiB to 6 GiB; an append must fit a sixth of them.
        segment_size: bytes of one segment of it; by default a sixth.
        max_producers: idempotent producers per stream; a further one is refused with 429.
        clock: what time it is, in microseconds of Unix time.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: the size of the write-ahead log is out of range.
        DirectoryRefused: another process has the directory (in a worker of a host server, this ends the process with exit code 3
            unless it is caught), or it is of an unknown format, or the system allows no file as large
            as a segment.
        Damaged: what was acknowledged cannot be read back.
        OSError: the disk failed.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        create: bool = True,
        wal_size: int = DEFAULT_SIZE,
        segment_size: int | None = None,
        max_producers: int = DEFAULT_MAX_PRODUCERS,
        clock: Clock = system_clock,
    ) -> None:
        require((str, os.PathLike), path=path)
        require(bool, create=create)
        require(int, wal_size=wal_size, max_producers=max_producers)
        require(OPTIONAL_INT, segment_size=segment_size)
        require_callable(clock=clock)
        if not MIN_SIZE <= wal_size <= MAX_SIZE:
            raise ValueError(f"wal_size must be from {MIN_SIZE} to {MAX_SIZE} bytes")
        segment_size = segment_size or segment_size_of(wal_size)
        self._directory = SystemDisk(path)
        try:
            prepare(self._directory, str(path), create=create)
        except DirectoryInUse as refusal:
            raise workers.refusal_of(refusal) from None
        try:
            _check_largest_file(self._directory, segment_size)
            give_way(self._directory)
            catalog = LmdbCatalog(str(self._directory.root / CATALOG))
            self._opened_catalog = catalog
            forked.guard(self)
            self._directory.sync_directory(CATALOG)
            self._directory.watch([f"{CATALOG}/data.mdb"])
            super().__init__(
                self._directory,
                catalog,
                segment_size=segment_size,
                max_producers=max_producers,
            )
        except BaseException:
            self._directory.release()
            raise
        self._begin_calls(clock)

    def forked(self) -> None:
        """Makes the child's copy refuse everything. LMDB must not be used across a fork, nor be closed there."""
        forked.keep_for_ever(self._opened_catalog)
        forked.refuse_calls(self._opened_catalog, Catalog, ends="close")
        self.failure = forked.refusal()
        self.subscriptions = Subscriptions()  # or the child would deliver what its parent delivers
        self._calls = RefusedCalls()
        kind = type(self)
        self.__class__ = types.new_class(f"Forked{kind.__name__}", (ForkedCopy, kind))

    def close(self) -> None:
        """Makes everything durable and lets the directory go."""
        try:
            super().close()
        finally:
            self._directory.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _settle(self, ticket: Ticket[Any]) -> None:
        self.shell.wait_for(ticket)


def _check_largest_file(disk: SystemDisk, segment_size: int) -> None:
    """Refuses a log whose segments no file can hold."""
    largest = disk.largest_file()
    if largest is not None and segment_size > largest:
        raise DirectoryRefused(
            f"a segment of the write-ahead log has {segment_size} bytes, but the system allows no file over {largest} "
            "(see ulimit -f): raise that limit, or set a smaller log"
        )
