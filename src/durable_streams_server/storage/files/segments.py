"""The segment files of the write-ahead log: which there are, which are free, and how they get their space.

`wal.py` decides which record goes where; here files are named, opened, allocated and used again. A file belongs to one segment
and a segment to one file. The size of segments is a setting that may change between two starts, so each segment knows its own
capacity, and a segment of another size is brought to the present one when nothing of it is needed any more.
"""

import struct
from collections import deque
from typing import Final, NamedTuple

from ..damage import Damaged
from .checksum import crc32
from .disk import NO_SPACE, Disk, File

DIRECTORY: Final = "wal"
MAX_FILES: Final = 6  # past this, writers wait for a checkpoint
PAGE: Final = 4096
_HEADER: Final = struct.Struct("<8sQQQII")  # magic, number, first LSN, salt, seed, CRC
_MAGIC: Final = b"DSWAL\x00\x00\x01"
_CRC: Final = struct.Struct("<I")


class Salt(NamedTuple):
    """What tells a segment's records from any other octets: how each begins, and what its CRC begins with."""

    mark: int
    seed: int

    @classmethod
    def of(cls, number: int) -> "Salt":
        """Returns the salt that a segment's header has as a number. A mark is never blank."""
        return cls((number & 0xFFFFFFFF) | 1, number >> 32)


_NO_SALT: Final = Salt.of(0)


class SegmentFile:
    """One segment file. `number` and `first` are 0 while it is free.

    `capacity` is how many bytes of it may be written; 0 when the disk has not reserved the space. The first `written` bytes count
    as written before: no zeros are written ahead there.
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
    """How a segment begins: its number, its first record's, and its salt as a number."""

    number: int
    first: int
    salt: int


class Segments:
    """The segment files. `take`, `give_back` and `wants_file` belong to the loop, `add_file` to the disk thread.

    Args:
        disk: where the files are.
        size: bytes of a segment file; 0 to look only, which changes nothing on the disk.

    Attributes:
        full: whether the disk had no room for another file.
    """

    def __init__(self, disk: Disk, size: int) -> None:
        self._disk = disk
        self._size = size
        self._free: deque[SegmentFile] = deque()  # ready to be taken
        self._misfits: deque[SegmentFile] = (
            deque()
        )  # free, but of another size: the disk thread has a go
        self._all: list[SegmentFile] = []  # all of them
        self._usable = 0  # how many have space that is reserved
        self.full = False

    # -- on the loop --------------------------------------------------------

    def take(self, need: int) -> SegmentFile | None:
        """Takes a free segment that holds at least `need` bytes; None if there is none."""
        for _ in range(len(self._free)):
            segment = self._free.popleft()
            if segment.capacity >= need:
                return segment
            self._misfits.append(segment)
        return None

    def give_back(self, segment: SegmentFile) -> None:
        """Makes a segment free whose records are no longer needed."""
        segment.number = 0
        (self._free if segment.capacity == self._size else self._misfits).append(segment)

    def wants_file(self) -> bool:
        """Whether the disk thread should make another segment ready. Asked for each record."""
        if self._misfits or self._usable < 2:
            return True
        return not self._free and len(self._all) < MAX_FILES

    @property
    def too_few(self) -> bool:
        """Whether not even two can be written: a checkpoint frees every segment but the newest, so with one none is ever free."""
        return self._usable < 2

    def can_hold(self, need: int) -> bool:
        """Whether any segment, free or not, holds `need` bytes."""
        return any(segment.capacity >= need for segment in self._all)

    # -- on the disk thread -------------------------------------------------

    def add_file(self) -> None:
        """Makes another segment ready: one of another size if there is one, else a new file. Sets `full` as the disk has room.

        Raises:
            OSError: for any other failure than a lack of room.
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
            if segment is not None:  # smaller records fit all the same, if any does
                (self._free if segment.capacity else self._misfits).append(segment)
            return
        self.full = False
        self._free.append(segment)

    def _fit(self, segment: SegmentFile) -> None:
        """Brings a free segment's file to the present size."""
        if segment.file.size() > self._size:
            segment.file.truncate(self._size)
            segment.capacity = min(segment.capacity, self._size)
        segment.file.allocate(self._size)
        segment.file.sync()
        self._usable += not segment.capacity
        segment.capacity = self._size

    def _new(self) -> SegmentFile:
        """Makes a file under the first number that no file has."""
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
        """Opens every segment file once, and returns those in use in the order of their numbers; the others are free.

        Raises:
            Damaged: a header is, or two names are one file.
        """
        used = []
        known: dict[object, str] = {}
        for name in self._disk.names(DIRECTORY):
            if not name.isdecimal():
                continue  # not ours; a segment that somebody has renamed is missed by its neighbours
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
            segment.written = (
                segment.file.size()
            )  # right for all but the newest: `Wal` finds its end
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
        """Reserves the space of a file that was found: a copy may have holes, which a commit could not fill on a full disk."""
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
        segment.file.sync()  # a crash may have come before whoever made or wrote it did so

    def close(self) -> None:
        """Closes the files."""
        for segment in self._all:
            segment.file.close()


def _name(number: int) -> str:
    return f"{number:03d}"


def segment_header(header: Header, seed: int) -> bytes:
    """Returns the page that a segment begins with; its first record follows the CRC `seed`."""
    head = _HEADER.pack(_MAGIC, *header, seed, 0)[:-4]
    return (head + _CRC.pack(crc32(head))).ljust(PAGE, b"\0")


def read_header(file: File) -> Header | None:
    """Returns how a segment begins; None if the file has never been used.

    Raises:
        Damaged: the header is neither whole nor blank.
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
    """Returns the CRC that a segment's first record follows."""
    seed: int = _HEADER.unpack(file.read(_HEADER.size, 0))[4]
    return seed
