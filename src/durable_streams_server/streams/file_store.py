"""`FileBackedStreamStore`: the file store with the same plain functions as `StreamStore`."""

import os
import types
from types import TracebackType
from typing import Any, Self

from ..protocol.arguments import OPTIONAL_INT, require, require_callable
from ..protocol.decisions.quota import Quota
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
    """Keeps streams in a data directory. Acknowledged changes survive any crash.

    The directory belongs to this process until `close`, which a `with` block calls. `append` returns when its bytes are durable. In a
    child process after `fork()`, the copy of an open store refuses every call with StoreForked, and `close` does nothing.

    Args:
        path: the data directory. It is created if it does not exist.
        create: whether to create a store in a directory that has none. False refuses such a directory, for example the mount point of a disk
            that is not mounted.
        wal_size: size of the write-ahead log in bytes, from 6 MiB to 6 GiB. One append may be as large as a sixth of it.
        segment_size: size of one segment of the write-ahead log in bytes; a sixth of `wal_size` by default.
        max_streams: maximum number of streams. The store refuses further streams with TooManyRequests (429). None means no limit.
        max_stream_bytes: maximum bytes of one stream. The store refuses appends beyond it with TooLarge (413). None means no limit.
        max_total_bytes: maximum bytes of all streams. The store refuses appends beyond it with StorageFull (507). None means no limit.
        max_producers: maximum number of idempotent producers per stream. The store refuses further producers with TooManyRequests (429).
        clock: returns the wall-clock time in microseconds of Unix time.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: `wal_size` is out of range, or a limit is below 1.
        DirectoryRefused: another process has the directory, its format is unknown, or the system does not allow a file as large as a
            segment. If a worker of a host server does not catch this error, its process exits with code 3.
        Damaged: acknowledged data cannot be read back.
        OSError: the disk failed.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        create: bool = True,
        wal_size: int = DEFAULT_SIZE,
        segment_size: int | None = None,
        max_streams: int | None = None,
        max_stream_bytes: int | None = None,
        max_total_bytes: int | None = None,
        max_producers: int = DEFAULT_MAX_PRODUCERS,
        clock: Clock = system_clock,
    ) -> None:
        require((str, os.PathLike), path=path)
        require(bool, create=create)
        require(int, wal_size=wal_size, max_producers=max_producers)
        require(OPTIONAL_INT, segment_size=segment_size, max_streams=max_streams)
        require(OPTIONAL_INT, max_stream_bytes=max_stream_bytes, max_total_bytes=max_total_bytes)
        require_callable(clock=clock)
        if not MIN_SIZE <= wal_size <= MAX_SIZE:
            raise ValueError(f"wal_size must be from {MIN_SIZE} to {MAX_SIZE} bytes")
        quota = Quota(max_streams, max_stream_bytes, max_total_bytes)
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
                quota=quota,
            )
        except BaseException:
            self._directory.release()
            raise
        self._begin_calls(clock)

    def forked(self) -> None:
        """Makes this copy refuse every call, in a child process after a fork. The child must neither use nor close LMDB."""
        forked.keep_forever(self._opened_catalog)
        forked.refuse_calls(self._opened_catalog, Catalog, ends="close")
        self.failure = forked.refusal()
        self.subscriptions = (
            Subscriptions()
        )  # so that the child does not deliver its parent's webhooks
        self._calls = RefusedCalls()
        kind = type(self)
        self.__class__ = types.new_class(f"Forked{kind.__name__}", (ForkedCopy, kind))

    def close(self) -> None:
        """Makes all changes durable, and releases the directory for other processes."""
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
    """Raises DirectoryRefused if the system does not allow files as large as a segment."""
    largest = disk.largest_file()
    if largest is not None and segment_size > largest:
        raise DirectoryRefused(
            f"a segment of the write-ahead log has {segment_size} bytes, but the system allows no file over {largest} "
            "(see ulimit -f): raise that limit, or set a smaller log"
        )
