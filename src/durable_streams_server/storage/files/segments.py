"""The segment files of the write-ahead log: which there are, which are free, and how they get their space.

`wal.py` decides which record goes where; here files are named, opened, allocated and used again. A file belongs to one slot
and a slot to one file. The size of segments is a setting that may change between two starts, so each slot knows its own
capacity, and a slot of another size is brought to the present one when nothing of it is needed any more.
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
        self._slots: list[SegmentFile] = []  # all of them
        self._usable = 0  # how many have space that is reserved
        self.full = False

    # -- on the loop --------------------------------------------------------

    def take(self, need: int) -> SegmentFile | None:
        """Takes a free slot that holds at least `need` bytes; None if there is none."""
        for _ in range(len(self._free)):
            slot = self._free.popleft()
            if slot.capacity >= need:
                return slot
            self._misfits.append(slot)
        return None

    def give_back(self, slot: SegmentFile) -> None:
        """Makes a slot free whose records are no longer needed."""
        slot.number = 0
        (self._free if slot.capacity == self._size else self._misfits).append(slot)

    def wants_file(self) -> bool:
        """Whether the disk thread should make another segment ready. Asked for each record."""
        if self._misfits or self._usable < 2:
            return True
        return not self._free and len(self._slots) < MAX_FILES

    @property
    def too_few(self) -> bool:
        """Whether not even two can be written: a checkpoint frees every segment but the newest, so with one none is ever free."""
        return self._usable < 2

    def can_hold(self, need: int) -> bool:
        """Whether any slot, free or not, holds `need` bytes."""
        return any(slot.capacity >= need for slot in self._slots)

    # -- on the disk thread -------------------------------------------------

    def add_file(self) -> None:
        """Makes another segment ready: one of another size if there is one, else a new file. Sets `full` as the disk has room.

        Raises:
            OSError: for any other failure than a lack of room.
        """
        slot = self._misfits.popleft() if self._misfits else None
        try:
            if slot is not None:
                self._fit(slot)
            else:
                slot = self._new()
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise
            self.full = True
            if slot is not None:  # smaller records fit all the same, if any does
                (self._free if slot.capacity else self._misfits).append(slot)
            return
        self.full = False
        self._free.append(slot)

    def _fit(self, slot: SegmentFile) -> None:
        """Brings a free slot's file to the present size."""
        if slot.file.size() > self._size:
            slot.file.truncate(self._size)
            slot.capacity = min(slot.capacity, self._size)
        slot.file.allocate(self._size)
        slot.file.sync()
        self._usable += not slot.capacity
        slot.capacity = self._size

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
        slot = SegmentFile(path, file)
        self._slots.append(slot)
        self._usable += 1
        return slot

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
            slot = SegmentFile(path, self._disk.open(path))
            self._slots.append(slot)
            twin = known.setdefault(slot.file.identity(), path)
            if twin != path:
                raise Damaged(f"{path}: it is the same file as {twin}")
            try:
                header = read_header(slot.file)
            except Damaged as damage:
                raise Damaged(f"{path}: {damage}") from None
            self._secure(slot)
            if header is None:
                self.give_back(slot)
                continue
            slot.written = slot.file.size()  # right for all but the newest: `Wal` finds its end
            slot.number, slot.first, slot.salt = header.number, header.first, Salt.of(header.salt)
            used.append(slot)
        if self._size:
            self._disk.sync_directory(DIRECTORY)
        used.sort(key=lambda slot: slot.number)
        return used

    def _secure(self, slot: SegmentFile) -> None:
        """Reserves the space of a file that was found: a copy may have holes, which a commit could not fill on a full disk."""
        if not self._size:
            return
        try:
            if slot.capacity:
                slot.file.allocate(slot.capacity)
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise
            self.full = True
            slot.capacity = 0
        self._usable += slot.capacity > 0
        slot.file.sync()  # a crash may have come before whoever made or wrote it did so

    def close(self) -> None:
        """Closes the files."""
        for slot in self._slots:
            slot.file.close()


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


def slot_seed(file: File) -> int:
    """Returns the CRC that a segment's first record follows."""
    seed: int = _HEADER.unpack(file.read(_HEADER.size, 0))[4]
    return seed
