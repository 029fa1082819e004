"""Implements `File` with a descriptor of the operating system. Its errors name the file."""

import errno
import fcntl
import io
import os
from pathlib import Path
from typing import Final

from ...protocol.units import MIB
from . import forked
from .disk import File
from .opening import open_plain
from .place import Place

_DSYNC: Final = getattr(os, "RWF_DSYNC", 0)
_NOWAIT: Final = getattr(os, "RWF_NOWAIT", 0)
#: Maximum number of bytes that one system call reads. Such a call takes at most 3 ms, and a page of the default size needs one call.
_PIECE: Final = 4 * MIB


class SystemFile(File):
    """A file of the operating system.

    Args:
        path: the path of the file.
        create: whether to create the file if it is missing.
        mode: the mode flags of `os.open`.
    """

    def __init__(self, path: Path, create: bool, mode: int = os.O_RDWR) -> None:
        self._path = path
        self._descriptor, self._found = open_plain(path, mode | (os.O_CREAT if create else 0))
        # Created by the first check, because most files are never checked.
        self._place: Place | None = None
        forked.guard(self)

    def forked(self) -> None:
        """Closes the copy of the descriptor in the child of a fork, and makes every further call raise StoreForked."""
        self.close()
        forked.refuse_calls(self, File, ends="close")

    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def identity(self) -> object:
        status = os.fstat(self._descriptor)
        return status.st_dev, status.st_ino

    def read(self, size: int, position: int) -> bytes:
        if size <= _PIECE:
            found = os.pread(self._descriptor, size, position)
            if len(found) == size:
                return found
        return self._read_in_pieces(size, position)

    def _read_in_pieces(self, size: int, position: int) -> bytes:
        """Reads with several system calls, because one call for 60 MiB kept all other threads waiting for 40 ms."""
        read = io.BytesIO(bytes(size))  # zeros, which take no memory until they are overwritten
        done = 0
        with read.getbuffer() as room:
            while done < size:
                piece = room[done : done + _PIECE]
                count = os.preadv(self._descriptor, [piece], position + done)
                piece.release()
                if not count:
                    break
                done += count
        return read.getvalue()[:done]  # copies the bytes only if the file ended early

    def read_ready(self, size: int, position: int) -> bytes | None:
        if not _NOWAIT:
            return None
        buffer = bytearray(size)
        try:
            count = os.preadv(self._descriptor, [buffer], position, _NOWAIT)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EOPNOTSUPP):
                return None
            raise self._named(error) from None
        return bytes(buffer) if count == size else None

    def write(self, data: bytes | memoryview, position: int) -> None:
        self._write(data, position, 0)

    def write_durably(self, data: bytes | tuple[bytes, ...], position: int) -> None:
        self._write(data, position, _DSYNC)
        if not _DSYNC:
            self.sync()

    def allocate(self, size: int) -> None:
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self._descriptor, 0, size)
            else:
                os.ftruncate(self._descriptor, size)
        except OSError as error:
            raise self._named(error) from None

    def truncate(self, size: int) -> None:
        try:
            os.ftruncate(self._descriptor, size)
        except OSError as error:
            raise self._named(error) from None

    def sync(self) -> None:
        try:
            # On macOS, fsync does not flush the cache of the device.
            if hasattr(fcntl, "F_FULLFSYNC"):
                fcntl.fcntl(self._descriptor, fcntl.F_FULLFSYNC)
            else:
                os.fdatasync(self._descriptor)
        except OSError as error:
            raise self._named(error) from None

    def check_place(self) -> None:
        if self._place is None:
            self._place = Place(self._path, self._found)
        self._place.check()

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _write(
        self, data: bytes | memoryview | tuple[bytes, ...], position: int, flags: int
    ) -> None:
        parts = data if isinstance(data, tuple) else (data,)
        views = [memoryview(part) for part in parts if part]
        try:
            while views:
                written = os.pwritev(self._descriptor, views, position, flags)
                if written == 0:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                position += written
                while views and written >= len(views[0]):
                    written -= len(views.pop(0))
                if written:
                    views[0] = views[0][written:]
        except OSError as error:
            raise self._named(error) from None

    def _named(self, error: OSError) -> OSError:
        """Returns the same error with the name of the file in it."""
        return OSError(error.errno, error.strerror, str(self._path))


class ReadOnlyFile(SystemFile):
    """A file for reading only. Each call that would change it raises an OSError with EROFS.

    Args:
        path: the path of the file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, False, os.O_RDONLY)

    def allocate(self, _: int) -> None:
        raise read_only_error(self._path)

    def truncate(self, _: int) -> None:
        raise read_only_error(self._path)

    def sync(self) -> None:
        """Does nothing, because nothing can be written through this file."""

    def _write(self, *_: object) -> None:
        raise read_only_error(self._path)


def read_only_error(path: Path) -> OSError:
    """Returns the error for a change on a read-only disk."""
    return OSError(errno.EROFS, "it was opened only to look at", str(path))
