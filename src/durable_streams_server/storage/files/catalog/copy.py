"""The second copy of the catalog: an append-only file of all operations, from which the database can be rebuilt.

The file begins with a header that holds the catalog's random identity. Records of operations follow. A commit consists of one or more
records, and the last of them is marked. A copy that was rewritten begins with a base, which holds every entry that was live at that
time. Each record has a CRC, and is synced before the database commits. So after a crash, the copy has the same commits as the
database or one more, perhaps with a torn record at the end.
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
#: The kinds of records: one that more records of the commit or base follow, the last of a commit, and the last of a base.
PART, COMMIT, BASE = 1, 2, 3
_MAGIC: Final = b"DSCOPY1\n"
_MARK: Final = b"\xd5rec"
_HEAD: Final = struct.Struct("<8sQI")  # magic, identity, CRC of both
HEAD_SIZE: Final = _HEAD.size
_RECORD: Final = struct.Struct("<4sIIBxxxQ")  # mark, CRC of the rest, size, kind, commit
_CRC_FROM: Final = 8  # position in a record from which the CRC covers it
#: Maximum number of parts in a record, three for each operation. So one damaged record loses at most 4096 operations.
_AT_ONCE: Final = 3 * 4096
_PIECE: Final = 1024 * 1024  # approximate bytes of a record in a base, and of one read in a search


class CopyState(NamedTuple):
    """The extent of the commits in the catalog's second copy. Positions are in bytes of the file.

    Attributes:
        identity: the identity of the catalog.
        commits: the number of the last commit.
        last: the position of the last commit's first record, or of the base's last record if no commit follows the base.
        end: the position after the last commit's records.
        base: the position after the base; 0 if there is no base.
    """

    identity: int
    commits: int
    last: int
    end: int
    base: int


class Record(NamedTuple):
    """One record of the catalog's second copy, with its position in the file and the number of its commit."""

    start: int
    end: int
    kind: int
    commits: int
    payload: bytes


class Copy:
    """The second copy of the catalog in a data directory. Call `load` before anything else.

    Args:
        disk: the disk that holds the copy.
        directory: the catalog's directory on the disk; empty if it is the disk's own directory.

    Attributes:
        state: the extent of the intact commits; None if there is none.
        newest: the highest commit number in any intact record, even behind damage.
    """

    def __init__(self, disk: Disk, directory: str = "") -> None:
        self._disk = disk
        self._directory = directory
        self._prefix = f"{directory}/" if directory else ""
        self._file: File | None = None
        self._size = 0
        self._before: CopyState | None = None  # the state before the last commit
        # The state with an appended commit that is neither confirmed nor discarded yet.
        self._written: CopyState | None = None
        self.state: CopyState | None = None
        self.newest = 0

    @property
    def file(self) -> File | None:
        """The open file of the second copy; None if the file does not exist."""
        return self._file

    def load(self, hint: CopyState | None = None) -> None:
        """Opens and reads the file of the second copy.

        Args:
            hint: an earlier state of the same file, so that only later records need be read.
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
        for record in intact_records(self._file, end, seed):
            self.newest = max(self.newest, record.commits)

    def sync(self) -> None:
        """Syncs the second copy, because the process that wrote it may have died before it synced its last records."""
        if self._file is not None:
            self._file.sync()
            self._disk.sync_directory(self._directory)

    def append(self, identity: int, commits: int, parts: list[bytes]) -> None:
        """Appends a commit to the second copy and syncs it. The caller must then call `confirm_append` or `discard_append`, or end the process.

        Args:
            identity: the identity of the catalog.
            commits: the number of the commit, one higher than the last.
            parts: the encoded operations, in three parts each.
        """
        state = self.state
        if self._file is None:
            self._file = self._disk.open(self._prefix + NAME, create=True)
        position = state.end if state is not None else 0
        if self._size > position:
            self._truncate(position)
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
        """Accepts the appended commit, because the database has committed it too."""
        if self._written is not None:
            self._before, self.state, self._written = self.state, self._written, None
            self.newest = self.state.commits

    def discard_append(self) -> None:
        """Truncates the second copy after the last accepted commit, because the database has not committed the rest."""
        self._written = None
        end = self.state.end if self.state is not None else 0
        if self._file is not None and self._size > end:
            self._truncate(end)

    def drop_last_commit(self) -> None:
        """Ignores the last commit in the second copy, because the database has no room for it. The next append overwrites its records."""
        self.state = self._before

    def last_operations(self) -> Iterator[Operation]:
        """Yields the operations of the last commit in the second copy."""
        assert self._file is not None
        assert self.state is not None
        for record in records(self._file, self.state.last, _seed(self.state.identity)):
            if record.end <= self.state.end:
                yield from operations(record.payload)

    def rewrite(self, identity: int, commits: int, entries: Iterable[bytes]) -> None:
        """Replaces the second copy by a base with all live entries. A crash leaves either the old file or the new one.

        Args:
            identity: the identity of the catalog.
            commits: the number of the last commit.
            entries: an encoded operation for each live entry, with the metadata entry last.

        Raises:
            OSError: the new file could not be written. The old file has not changed.
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
        self.close()  # the new file stays open, because there may be no free file handle to open it again
        self._file, self._size = file, file.size()
        self._disk.sync_directory(self._directory)
        self.state, self._before, self._written = state, None, None
        self.newest = commits

    def remove(self) -> None:
        """Deletes the second copy."""
        self.close()
        self.state = self._before = self._written = None
        self.newest = self._size = 0
        self._disk.unlink(self._prefix + NAME)
        self._disk.sync_directory(self._directory)

    def close(self) -> None:
        """Closes the file of the second copy."""
        if self._file is not None:
            self._file.close()
            self._file = None

    # -- inside -------------------------------------------------------------

    def _truncate(self, end: int) -> None:
        """Truncates the second copy and syncs it, so that the removed bytes cannot reappear behind the next append."""
        assert self._file is not None
        self._file.truncate(end)
        self._file.sync()
        self._size = end

    def _fits_hint(self, hint: CopyState, identity: int, seed: int) -> bool:
        """Returns whether the second copy still has the last commit of an earlier state at the same position."""
        assert self._file is not None
        if hint.identity != identity or not _HEAD.size <= hint.last < hint.end <= self._size:
            return False
        for record in records(self._file, hint.last, seed):
            if record.kind != PART:
                return record.end == hint.end and record.commits == hint.commits
        return False


def read_head(file: File) -> int | None:
    """Returns the catalog identity in the header of a second copy, or None if the header is damaged."""
    head = file.read(_HEAD.size, 0)
    if len(head) < _HEAD.size:
        return None
    magic, identity, crc = _HEAD.unpack(head)
    is_whole = magic == _MAGIC and crc == crc32(head[: _HEAD.size - 4])
    return int(identity) if is_whole else None


def records(file: File, position: int, seed: int) -> Iterator[Record]:
    """Yields the intact records of the catalog's second copy from a position on, and stops at the first damaged one.

    Args:
        file: the second copy.
        position: the position of the first record.
        seed: the CRC seed of the copy's records.
    """
    size = file.size()
    while (record := _read_record(file, position, size, seed)) is not None:
        yield record
        position = record.end


def committed_payloads(copy: Copy) -> Iterator[bytes]:
    """Yields the encoded operations of every intact commit in the catalog's second copy, one payload for each record."""
    state, file = copy.state, copy.file
    assert state is not None
    assert file is not None
    for record in records(file, _HEAD.size, _seed(state.identity)):
        if record.end <= state.end:
            yield record.payload


def all_intact_records(file: File, identity: int) -> Iterator[Record]:
    """Yields every intact record of the catalog's second copy, even behind damage."""
    return intact_records(file, _HEAD.size, _seed(identity))


def intact_records(file: File, position: int, seed: int) -> Iterator[Record]:
    """Yields the intact records of the catalog's second copy from a position on, even behind damage.

    Args:
        file: the second copy.
        position: where the search begins.
        seed: the CRC seed of the copy's records.
    """
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
    """Returns the record that begins at a position of the second copy, or None if no intact record begins there.

    Args:
        file: the second copy.
        position: the position.
        size: the size of the file in bytes.
        seed: the CRC seed of the copy's records.
    """
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
    """Returns the header and the payload of a new record for the second copy."""
    head = _RECORD.pack(_MARK, 0, len(payload), kind, commits)
    crc = crc32(payload, crc32(head[_CRC_FROM:], seed))
    return _RECORD.pack(_MARK, crc, len(payload), kind, commits), payload


def _head(identity: int) -> bytes:
    """Returns the header of a second copy for a catalog with that identity."""
    head = _HEAD.pack(_MAGIC, identity, 0)[: _HEAD.size - 4]
    return head + crc32(head).to_bytes(4, "little")


def _seed(identity: int) -> int:
    """Returns the CRC seed of the records in a second copy. The seed makes records of another directory's copy look damaged."""
    return crc32(identity.to_bytes(8, "little"))


def _follows(record: Record, state: CopyState | None) -> bool:
    """Returns whether a record ends the next commit after a state, or a base or the first commit if there is no state."""
    if state is None:
        return record.kind == BASE or record.commits == 1
    return record.kind == COMMIT and record.commits == state.commits + 1


def _write_base(file: File, identity: int, commits: int, entries: Iterable[bytes]) -> CopyState:
    """Writes the header and the base of a second copy to an empty file. Returns the state of the copy."""
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
    "all_intact_records",
    "committed_payloads",
    "read_head",
]
