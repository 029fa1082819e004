"""The second copy of the catalog: an append-only file of every operation, from which the database can be made again.

It begins with a head, which names the directory's catalog by its random identity, and goes on with records. A commit is one
or more records of operations; the last of them says so. A copy that has been written anew begins with a base, which is
everything that was live then. Each record has a CRC, and is synced before the database commits. So a crash leaves the copy
level with the database or one commit ahead of it, perhaps with a torn record at its end.
"""

import contextlib
import struct
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from ..checksum import crc32
from ..disk import Disk, File
from .tables import Operation, operations

NAME: Final = "copy"
NEW: Final = NAME + ".new"
PART, COMMIT, BASE = 1, 2, 3  # more follows; the last of a commit; the last of a base
_MAGIC: Final = b"DSCOPY1\n"
_MARK: Final = b"\xd5rec"
_HEAD: Final = struct.Struct("<8sQI")  # magic, identity, CRC of both
HEAD_SIZE: Final = _HEAD.size
_RECORD: Final = struct.Struct("<4sIIBxxxQ")  # mark, CRC of the rest, size, kind, commit
_CRC_FROM: Final = 8  # within a record
_AT_ONCE: Final = (
    3 * 4096
)  # parts in a record, three for each operation: damage costs no more than these
_PIECE: Final = 1024 * 1024  # bytes of a record of a base, and of one read


class CopyState(NamedTuple):
    """What a copy holds.

    Attributes:
        identity: that of its catalog.
        commits: the number of its last commit.
        last: where the records of that begin; of a base, its last record.
        end: where they end.
        base: where its base ends; 0 without one.
    """

    identity: int
    commits: int
    last: int
    end: int
    base: int


class Record(NamedTuple):
    """One record of the file."""

    start: int
    end: int
    kind: int
    commits: int
    payload: bytes


class Copy:
    """The copy in a data directory.

    Args:
        disk: where the directory is.
        directory: the catalog's directory there; empty if it is the disk's own.

    Attributes:
        state: what it holds; None if that is not one whole commit.
        newest: the number of the newest commit of which it holds anything, also behind damage.
    """

    def __init__(self, disk: Disk, directory: str = "") -> None:
        self._disk = disk
        self._directory = directory
        self._prefix = f"{directory}/" if directory else ""
        self._file: File | None = None
        self._size = 0
        self._before: CopyState | None = None  # the last commit
        self._written: CopyState | None = None  # by `append`, until the database has it too
        self.state: CopyState | None = None
        self.newest = 0

    @property
    def file(self) -> File | None:
        """The open file; None if there is none."""
        return self._file

    def load(self, hint: CopyState | None = None) -> None:
        """Reads the file.

        Args:
            hint: what it held when somebody last looked, so that only what has been added need be read.
        """
        self.close()
        self.state = self._before = None
        self.newest = self._size = 0
        try:
            self._file = self._disk.open(self._prefix + NAME)
        except FileNotFoundError:
            return
        self._size = self._file.size()
        identity = read_head(self._file)
        if identity is None:
            return
        seed = _seed(identity)
        position = _HEAD.size
        if hint is not None and self._fits_hint(hint, identity, seed):
            self.state, position = hint, hint.end
        first = position
        for record in records(self._file, position, seed):
            if record.kind == PART:
                continue
            if not _follows(record, self.state):
                break
            base = record.end if record.kind == BASE else self.state.base if self.state else 0
            last = record.start if record.kind == BASE else first
            self._before = self.state
            self.state = CopyState(identity, record.commits, last, record.end, base)
            first = record.end
        self.newest = self.state.commits if self.state else 0
        end = self.state.end if self.state else _HEAD.size
        for record in whole_records(self._file, end, seed):
            self.newest = max(self.newest, record.commits)

    def sync(self) -> None:
        """Returns when what is there is durable: whoever wrote it may have died before that."""
        if self._file is not None:
            self._file.sync()
            self._disk.sync_directory(self._directory)

    def append(self, identity: int, commits: int, parts: list[bytes]) -> None:
        """Writes a commit and syncs it. Then `keep` or `discard_append` must be called, or the process end.

        Args:
            identity: the catalog's.
            commits: the commit's number, one more than the last.
            parts: its operations, encoded, in three parts each.
        """
        state = self.state
        if self._file is None:
            self._file = self._disk.open(self._prefix + NAME, create=True)
        position = state.end if state is not None else 0
        if self._size > position:
            self._cut(position)
        seed = _seed(identity)
        pieces = [] if state is not None else [_head(identity)]
        for at in range(0, len(parts), _AT_ONCE):
            kind = PART if at + _AT_ONCE < len(parts) else COMMIT
            pieces += _record(seed, kind, commits, b"".join(parts[at : at + _AT_ONCE]))
        data = b"".join(pieces)
        self._size = position + len(data)
        self._file.write(data, position)
        self._file.sync()
        if state is None:
            self._disk.sync_directory(self._directory)
        start = position if state is not None else _HEAD.size
        self._written = CopyState(identity, commits, start, self._size, state.base if state else 0)

    def confirm_append(self) -> None:
        """Notes that the database has what was appended."""
        if self._written is not None:
            self._before, self.state, self._written = self.state, self._written, None
            self.newest = self.state.commits

    def discard_append(self) -> None:
        """Cuts off what was appended, or is torn, because the database has not committed it."""
        self._written = None
        end = self.state.end if self.state is not None else 0
        if self._file is not None and self._size > end:
            self._cut(end)

    def drop_last_commit(self) -> None:
        """Goes on without the last commit, since the database has no room for it; it stays until the next one replaces it."""
        self.state = self._before

    def forget(self) -> None:
        """Goes on without a copy."""
        self.state = self._written = None

    def last_operations(self) -> Iterator[Operation]:
        """Iterates over the operations of the last commit."""
        assert self._file is not None
        assert self.state is not None
        for record in records(self._file, self.state.last, _seed(self.state.identity)):
            if record.end <= self.state.end:
                yield from operations(record.payload)

    def rewrite(self, identity: int, commits: int, entries: Iterable[bytes]) -> None:
        """Writes the file anew. A crash leaves the old one or the new one.

        Args:
            identity: the catalog's.
            commits: the number of its last commit.
            entries: everything that is live, as encoded puts; the summary comes last.

        Raises:
            OSError: the old file is as it was.
        """
        new = self._prefix + NEW
        self._disk.unlink(new)
        file = self._disk.open(new, create=True)
        try:
            state = _write_base(file, identity, commits, entries)
            file.sync()
            self._disk.rename(new, self._prefix + NAME)
        except Exception:
            file.close()
            with contextlib.suppress(OSError):
                self._disk.unlink(new)
            raise
        self.close()  # the new file stays open: there might be no handle to open it again
        self._file, self._size = file, file.size()
        self._disk.sync_directory(self._directory)
        self.state, self._before, self._written = state, None, None
        self.newest = commits

    def remove(self) -> None:
        """Removes the file."""
        self.close()
        self.state = self._before = self._written = None
        self.newest = self._size = 0
        self._disk.unlink(self._prefix + NAME)
        self._disk.sync_directory(self._directory)

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    # -- inside -------------------------------------------------------------

    def _cut(self, end: int) -> None:
        """Makes the file shorter. It is synced: what is cut off must not come back under what is written next."""
        assert self._file is not None
        self._file.truncate(end)
        self._file.sync()
        self._size = end

    def _fits_hint(self, hint: CopyState, identity: int, seed: int) -> bool:
        assert self._file is not None
        if hint.identity != identity or not _HEAD.size <= hint.last < hint.end <= self._size:
            return False
        for record in records(self._file, hint.last, seed):
            if record.kind != PART:
                return record.end == hint.end and record.commits == hint.commits
        return False


def read_head(file: File) -> int | None:
    """Returns the identity in a copy's head; None if the head cannot be read."""
    head = file.read(_HEAD.size, 0)
    if len(head) < _HEAD.size:
        return None
    magic, identity, crc = _HEAD.unpack(head)
    is_whole = magic == _MAGIC and crc == crc32(head[: _HEAD.size - 4])
    return int(identity) if is_whole else None


def records(file: File, position: int, seed: int) -> Iterator[Record]:
    """Iterates over the whole records from a position on, up to the first that is not."""
    size = file.size()
    while (record := _read_record(file, position, size, seed)) is not None:
        yield record
        position = record.end


def committed_payloads(copy: Copy) -> Iterator[bytes]:
    """Iterates over the operations of every whole commit of a copy, record by record."""
    state, file = copy.state, copy.file
    assert state is not None
    assert file is not None
    for record in records(file, _HEAD.size, _seed(state.identity)):
        if record.end <= state.end:
            yield record.payload


def all_whole_records(file: File, identity: int) -> Iterator[Record]:
    """Iterates over every record of a copy that is whole, also behind damage."""
    return whole_records(file, _HEAD.size, _seed(identity))


def whole_records(file: File, position: int, seed: int) -> Iterator[Record]:
    """Iterates over the whole records that can be found from a position on, also behind damage."""
    size = file.size()
    while position < size:
        record = _read_record(file, position, size, seed)
        if record is not None:
            yield record
            position = record.end
            continue
        window = file.read(_PIECE, position + 1)
        found = window.find(_MARK)
        if found >= 0:
            position += 1 + found
        else:
            position += max(1, len(window) - len(_MARK) + 1)


def _read_record(file: File, position: int, size: int, seed: int) -> Record | None:
    head = file.read(_RECORD.size, position)
    if len(head) < _RECORD.size:
        return None
    mark, crc, length, kind, commits = _RECORD.unpack(head)
    end = position + _RECORD.size + length
    if mark != _MARK or end > size or kind not in (PART, COMMIT, BASE):
        return None
    payload = file.read(length, position + _RECORD.size)
    if len(payload) != length or crc32(payload, crc32(head[_CRC_FROM:], seed)) != crc:
        return None
    return Record(position, end, kind, commits, payload)


def _record(seed: int, kind: int, commits: int, payload: bytes) -> tuple[bytes, bytes]:
    """Returns a record's head and payload."""
    head = _RECORD.pack(_MARK, 0, len(payload), kind, commits)
    crc = crc32(payload, crc32(head[_CRC_FROM:], seed))
    return _RECORD.pack(_MARK, crc, len(payload), kind, commits), payload


def _head(identity: int) -> bytes:
    head = _HEAD.pack(_MAGIC, identity, 0)[: _HEAD.size - 4]
    return head + crc32(head).to_bytes(4, "little")


def _seed(identity: int) -> int:
    """Returns what each record's CRC begins with: a record of another directory's copy must not pass for one of this."""
    return crc32(identity.to_bytes(8, "little"))


def _follows(record: Record, state: CopyState | None) -> bool:
    """Returns whether the record that ends a commit comes next."""
    if state is None:
        return record.kind == BASE or record.commits == 1
    return record.kind == COMMIT and record.commits == state.commits + 1


def _write_base(file: File, identity: int, commits: int, entries: Iterable[bytes]) -> CopyState:
    seed = _seed(identity)
    file.write(_head(identity), 0)
    position = _HEAD.size
    waiting: list[bytes] = []
    gathered = 0
    for entry in entries:
        if gathered >= _PIECE:
            data = b"".join(_record(seed, PART, commits, b"".join(waiting)))
            file.write(data, position)
            position += len(data)
            waiting, gathered = [], 0
        waiting.append(entry)
        gathered += len(entry)
    data = b"".join(_record(seed, BASE, commits, b"".join(waiting)))
    file.write(data, position)
    end = position + len(data)
    return CopyState(identity, commits, position, end, end)


__all__ = [
    "NAME",
    "Copy",
    "CopyState",
    "Record",
    "all_whole_records",
    "committed_payloads",
    "read_head",
]
