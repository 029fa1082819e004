"""The segment files of the write-ahead log: names, opens, allocates and recycles them.

`wal.py` decides which record goes to which segment. Each segment has one file. The segment size is a setting that may change between
two starts, so each segment knows its own capacity. A segment of another size is resized once its records are no longer needed.
"""

import struct
from collections import deque
from typing import Final, NamedTuple

from ..damage import Damaged
from .checksum import crc32
from .disk import NO_SPACE, Disk, File

DIRECTORY: Final = "wal"
#: Maximum number of segment files. Once all are in use, writers wait for a checkpoint.
MAX_FILES: Final = 6
#: Size of the header of a segment in bytes.
PAGE: Final = 4096
_HEADER: Final = struct.Struct("<8sQQQII")  # magic, number, first LSN, salt, seed, CRC
_MAGIC: Final = b"DSWAL\x00\x00\x01"
_CRC: Final = struct.Struct("<I")


class Salt(NamedTuple):
    """The secret of a segment, which distinguishes its records from any other bytes.

    Attributes:
        mark: the number that each record begins with.
        seed: the initial value of each record's CRC.
    """

    mark: int
    seed: int

    @classmethod
    def of(cls, number: int) -> "Salt":
        """Returns the salt for the number in a segment's header. The mark is never 0."""
        return cls((number & 0xFFFFFFFF) | 1, number >> 32)


_NO_SALT: Final = Salt.of(0)


class SegmentFile:
    """One segment file.

    Attributes:
        name: the path of the file.
        file: the open file.
        capacity: the number of bytes that may be written, which is 0 if the disk has not reserved the space.
        number: the number of the segment, or 0 while it is free.
        first: the LSN of the first record, or 0 while the segment is free.
        last: the LSN of the last record.
        salt: the salt of the segment.
        written: the number of bytes at the beginning that have been written before, so that writes there need no padding.
    """

    __slots__ = ("capacity", "file", "first", "last", "name", "number", "salt", "written")

    def __init__(self, name: str, file: File) -> None:
        self.name = name
        self.file = file
        self.capacity = file.size()
        self.number = 0
        self.first = 0
        self.last = 0
        self.salt = _NO_SALT
        self.written = 0


class Header(NamedTuple):
    """The header of a segment.

    Attributes:
        number: the number of the segment.
        first: the LSN of the first record.
        salt: the number from which the salt is derived.
    """

    number: int
    first: int
    salt: int


class Segments:
    """Keeps all segment files of one log, and knows which are free.

    The event loop calls `take`, `give_back` and `wants_file`, and the disk thread calls `add_file`.

    Args:
        disk: the disk that holds the files.
        size: the size of a segment file in bytes, or 0 for a log that is only read, so that nothing on the disk changes.

    Attributes:
        full: whether the disk had no room for another file.
    """

    def __init__(self, disk: Disk, size: int) -> None:
        self._disk = disk
        self._size = size
        self._free: deque[SegmentFile] = deque()  # ready for use
        self._misfits: deque[SegmentFile] = deque()  # free, but to be resized by the disk thread
        self._all: list[SegmentFile] = []
        self._usable = 0  # the number of segments whose space is reserved
        self.full = False

    # -- on the event loop --------------------------------------------------

    def take(self, need: int) -> SegmentFile | None:
        """Returns a free segment of at least `need` bytes for use, or None if there is none."""
        for _ in range(len(self._free)):
            segment = self._free.popleft()
            if segment.capacity >= need:
                return segment
            self._misfits.append(segment)
        return None

    def give_back(self, segment: SegmentFile) -> None:
        """Frees a segment whose records are no longer needed."""
        segment.number = 0
        (self._free if segment.capacity == self._size else self._misfits).append(segment)

    def wants_file(self) -> bool:
        """Returns whether the disk thread should prepare another segment. Called for each record."""
        if self._misfits or self._usable < 2:
            return True
        return not self._free and len(self._all) < MAX_FILES

    @property
    def capacity(self) -> int:
        """The bytes of all segments whose space is reserved."""
        return sum(segment.capacity for segment in tuple(self._all))

    @property
    def has_too_few(self) -> bool:
        """Whether fewer than two segments have reserved space. A checkpoint frees all but the newest segment, so a single one is never freed."""
        return self._usable < 2

    def can_hold(self, need: int) -> bool:
        """Returns whether any segment, free or in use, is large enough for `need` bytes."""
        return any(segment.capacity >= need for segment in self._all)

    # -- on the disk thread -------------------------------------------------

    def add_file(self) -> None:
        """Prepares another segment: resizes a segment of another size, or creates a file. Sets `full` to whether the disk had no room.

        Raises:
            OSError: the disk failed in another way.
        """
        segment = self._misfits.popleft() if self._misfits else None
        try:
            if segment is not None:
                self._fit(segment)
            else:
                segment = self._new()
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise
            self.full = True
            # The segment can still hold smaller records if its space is reserved.
            if segment is not None:
                (self._free if segment.capacity else self._misfits).append(segment)
            return
        self.full = False
        self._free.append(segment)

    def _fit(self, segment: SegmentFile) -> None:
        """Resizes the file of a free segment to the configured size."""
        if segment.file.size() > self._size:
            segment.file.truncate(self._size)
            segment.capacity = min(segment.capacity, self._size)
        segment.file.allocate(self._size)
        segment.file.sync()
        self._usable += not segment.capacity
        segment.capacity = self._size

    def _new(self) -> SegmentFile:
        """Creates a segment file under the first free number."""
        taken = set(self._disk.names(DIRECTORY))
        number = next(n for n in range(len(taken) + 1) if _name(n) not in taken)
        path = f"{DIRECTORY}/{_name(number)}"
        file = self._disk.open(path, create=True)
        try:
            file.allocate(self._size)
            file.sync()
            self._disk.sync_directory(DIRECTORY)
        except OSError:
            file.close()
            self._disk.unlink(path)
            raise
        segment = SegmentFile(path, file)
        self._all.append(segment)
        self._usable += 1
        return segment

    # -- at the start -------------------------------------------------------

    def open(self) -> list[SegmentFile]:
        """Opens every segment file, and returns the segments in use, ordered by number. All other segments are free.

        Raises:
            Damaged: a header is damaged, or two names refer to the same file.
        """
        used = []
        known: dict[object, str] = {}
        for name in self._disk.names(DIRECTORY):
            if not name.isdecimal():
                # The file is no segment. If it is a renamed segment, the gap in the chain of segments reveals the loss.
                continue
            path = f"{DIRECTORY}/{name}"
            segment = SegmentFile(path, self._disk.open(path))
            self._all.append(segment)
            twin = known.setdefault(segment.file.identity(), path)
            if twin != path:
                raise Damaged(f"{path}: it is the same file as {twin}")
            try:
                header = read_header(segment.file)
            except Damaged as damage:
                raise Damaged(f"{path}: {damage}") from None
            self._secure(segment)
            if header is None:
                self.give_back(segment)
                continue
            # `Wal` corrects `written` for the newest segment.
            segment.written = segment.file.size()
            segment.number, segment.first, segment.salt = (
                header.number,
                header.first,
                Salt.of(header.salt),
            )
            used.append(segment)
        if self._size:
            self._disk.sync_directory(DIRECTORY)
        used.sort(key=lambda segment: segment.number)
        return used

    def _secure(self, segment: SegmentFile) -> None:
        """Reserves the space of an existing file, because a copied file may have holes that a full disk could not fill later."""
        if not self._size:
            return
        try:
            if segment.capacity:
                segment.file.allocate(segment.capacity)
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise
            self.full = True
            segment.capacity = 0
        self._usable += segment.capacity > 0
        # The process that wrote the file may have crashed before its sync.
        segment.file.sync()

    def close(self) -> None:
        """Closes every segment file."""
        for segment in self._all:
            segment.file.close()


def _name(number: int) -> str:
    return f"{number:03d}"


def segment_header(header: Header, seed: int) -> bytes:
    """Returns the page that a segment begins with.

    Args:
        header: the header.
        seed: the CRC of the last record of the previous segment.
    """
    head = _HEADER.pack(_MAGIC, *header, seed, 0)[:-4]
    return (head + _CRC.pack(crc32(head))).ljust(PAGE, b"\0")


def read_header(file: File) -> Header | None:
    """Returns the header of a segment, or None if the file has never been used.

    Raises:
        Damaged: the header is neither whole nor all zeros.
    """
    raw = file.read(_HEADER.size, 0)
    if not raw.strip(b"\0"):
        return None
    if len(raw) < _HEADER.size:
        raise Damaged("its header is cut short")
    magic, number, first, salt, _, crc = _HEADER.unpack(raw)
    if magic != _MAGIC or crc32(raw[:-4]) != crc:
        raise Damaged("its header is damaged")
    return Header(number, first, salt)


def chain_seed(file: File) -> int:
    """Returns the CRC of the record before a segment, which is stored in the segment's header."""
    seed: int = _HEADER.unpack(file.read(_HEADER.size, 0))[4]
    return seed
