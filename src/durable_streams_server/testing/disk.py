"""A disk under test control: it tears writes, loses what was not synced, and fails at any call.

It holds two things: what is on the platter, and what the operating system has been told. A crash of the process leaves both; a
power loss keeps of the second any subset, sector by sector and name by name.
"""

import errno
import os
import random
from collections.abc import Callable, Iterable
from typing import Final

from ..storage.files.disk import Disk, File
from ..storage.files.place import DirectoryLost

SECTOR: Final = 512


class PowerLoss(BaseException):
    """The machine has gone down in the middle of a disk call."""


class Node:
    """One file: its platter, and the writes since its last sync."""

    def __init__(self) -> None:
        self.durable = bytearray()
        self.current = bytearray()
        self.unsynced: list[tuple[int, bytes]] = []  # position and bytes, in sectors' pieces
        self.sizes: list[int] = []  # sizes that the file has had since

    def write(self, data: bytes, position: int) -> None:
        if len(self.current) < position + len(data):
            self.current.extend(bytes(position + len(data) - len(self.current)))
            self.sizes.append(len(self.current))
        self.current[position : position + len(data)] = data
        at = 0
        while at < len(data):  # by position: to cut the rest off each time would cost its square
            end = at + SECTOR - (position + at) % SECTOR
            self.unsynced.append((position + at, data[at:end]))
            at = end

    def resize(self, size: int) -> None:
        if size < len(self.current):
            del self.current[size:]
        else:
            self.current.extend(bytes(size - len(self.current)))
        self.sizes.append(size)

    def sync(self) -> None:
        self.durable = bytearray(self.current)
        self.unsynced.clear()
        self.sizes.clear()

    def lose_power(self, chance: random.Random) -> None:
        """Leaves on the platter a subset of what was not synced."""
        size = chance.choice([len(self.durable), *self.sizes])
        kept = bytearray(self.durable)
        share = chance.choice((0.0, 0.2, 0.5, 0.8, 1.0))
        for position, data in self.unsynced:
            if chance.random() < share:
                if len(kept) < position + len(data):
                    kept.extend(bytes(position + len(data) - len(kept)))
                kept[position : position + len(data)] = data
        kept.extend(bytes(max(0, size - len(kept))))
        del kept[size:]
        self.durable, self.current = kept, bytearray(kept)
        self.unsynced.clear()
        self.sizes.clear()


class SimulatedDisk(Disk):
    """A disk in memory that survives the process and obeys a test.

    Args:
        chance: decides what a power loss keeps.
        capacity: bytes that all files may take together; None for no limit.

    Attributes:
        capacity: as given; a test may change it.
        largest: bytes that one file may have; None for no limit.
        tells_largest: whether it says so before a write fails.
        before: called with the name of each call before it has any effect; it may raise `PowerLoss` or an OSError. A write
            that is cut off so has been half made.
        catalog: whatever a catalog of the test's keeps on this disk.
        calls: how many calls there were.
        lost: whether the directory has been moved away while it was in use.
    """

    def __init__(self, chance: random.Random, capacity: int | None = None) -> None:
        self.chance = chance
        self.capacity = capacity
        self.largest: int | None = None
        self.tells_largest = True
        self.before: Callable[[str], None] = lambda _: None
        self.catalog: object = None
        self.calls = 0
        self.lost = False
        self._names: dict[str, Node] = {}  # as the operating system has them
        self._durable: dict[str, Node] = {}  # as they are on the platter
        self._changes: list[
            tuple[str, str, Node | None]
        ] = []  # directory, path, and its node or none

    def call(self, name: str) -> None:
        """Counts a call, and lets the test have its way with it."""
        self.calls += 1
        self.before(name)

    @property
    def used(self) -> int:
        """How many bytes all files take."""
        return sum(len(node.current) for node in self._names.values())

    def room(self) -> int | None:
        return None if self.capacity is None else max(0, self.capacity - self.used)

    def largest_file(self) -> int | None:
        return self.largest if self.tells_largest else None

    def limit(self, size: int, name: str) -> None:
        """Raises EFBIG if a file of `size` bytes is larger than the disk allows."""
        if self.largest is not None and size > self.largest:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), name)

    def need(self, size: int, name: str) -> None:
        """Raises ENOSPC if the disk has no room for `size` more bytes."""
        room = self.room()
        if room is not None and size > room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)

    def lose_power(self) -> None:
        """Leaves what a power loss leaves."""
        for _, path, node in self._changes:
            if self.chance.random() < 0.5:
                continue
            if node is None:
                self._durable.pop(path, None)
            else:
                self._durable[path] = node
        self._changes.clear()
        for node in {id(node): node for node in (*self._durable.values(),)}.values():
            node.lose_power(self.chance)
        self._names = dict(self._durable)

    def corrupt(self, path: str, position: int, bit: int) -> None:
        """Flips one bit of a file."""
        for content in (self._names[path].durable, self._names[path].current):
            if position < len(content):
                content[position] ^= 1 << bit

    def paths(self) -> list[str]:
        """Returns the paths of all files."""
        return sorted(self._names)

    def content(self, path: str) -> bytes:
        """Returns a file's bytes."""
        return bytes(self._names[path].current)

    def open(self, path: str, *, create: bool = False) -> File:
        self.call("open")
        node = self._names.get(path)
        if node is None:
            if not create:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            self.need(1, path)
            node = self._names[path] = Node()
            self._changes.append((_parent(path), path, node))
        return SimulatedFile(self, node, path)

    def create(self, path: str) -> File:
        if path in self._names:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        return self.open(path, create=True)

    def make_directory(self, path: str) -> None:
        self.call(f"make_directory {path}")

    def names(self, path: str) -> list[str]:
        prefix = path + "/" if path else ""
        found = {
            name[len(prefix) :].split("/")[0] for name in self._names if name.startswith(prefix)
        }
        return sorted(found)

    def exists(self, path: str) -> bool:
        return path in self._names or any(name.startswith(path + "/") for name in self._names)

    def size(self, path: str) -> int | None:
        node = self._names.get(path)
        return None if node is None else len(node.current)

    def rename(self, old: str, new: str) -> None:
        self.call("rename")
        node = self._names.pop(old)
        self._names[new] = node
        self._changes += [(_parent(new), new, node), (_parent(old), old, None)]

    def link(self, old: str, new: str) -> None:
        self.call("link")
        node = self._names[new] = self._names[old]
        self._changes.append((_parent(new), new, node))

    def unlink(self, path: str) -> None:
        self.call("unlink")
        if self._names.pop(path, None) is not None:
            self._changes.append((_parent(path), path, None))

    def sync_directory(self, path: str) -> None:
        self.call("sync_directory")
        left = []
        for change in self._changes:
            if change[0] != path:
                left.append(change)
            elif change[2] is None:
                self._durable.pop(change[1], None)
            else:
                self._durable[change[1]] = change[2]
        self._changes = left

    def sync_all(self) -> None:
        self.call("sync_all")
        for node in self._names.values():
            node.sync()
        self._durable = dict(self._names)
        self._changes.clear()

    def lock(self) -> bool:
        return True

    def release(self) -> None:
        return

    def watch(self, _: Iterable[str]) -> None:
        return

    def check_lock(self) -> None:
        if self.lost:
            raise DirectoryLost("the directory has been moved or removed")

    def check_place(self) -> None:
        self.check_lock()

    def random_number(self) -> int:
        return self.chance.getrandbits(64)


class SimulatedFile(File):
    """An open file of a `SimulatedDisk`."""

    def __init__(self, disk: SimulatedDisk, node: Node, path: str) -> None:
        self._disk = disk
        self._node = node
        self._path = path

    def size(self) -> int:
        return len(self._node.current)

    def read(self, size: int, position: int) -> bytes:
        return bytes(self._node.current[position : position + size])

    def read_ready(self, size: int, position: int) -> bytes | None:
        return self.read(size, position)

    def write(self, data: bytes | memoryview, position: int) -> None:
        data = bytes(data)
        self._cut_off("write", data, position)
        self._write_what_fits(data, position)
        self._node.write(data, position)

    def write_durably(self, data: bytes | tuple[bytes, ...], position: int) -> None:
        if isinstance(data, tuple):
            data = b"".join(data)
        self._cut_off("write_durably", data, position)
        self._node.write(data, position)
        durable = self._node.durable
        if len(durable) < len(self._node.current):
            durable.extend(bytes(len(self._node.current) - len(durable)))
        durable[position : position + len(data)] = data
        end = position + len(data)
        self._node.unsynced = [
            (at, piece)
            for at, piece in self._node.unsynced
            if at + len(piece) <= position or at >= end
        ]

    def allocate(self, size: int) -> None:
        grows = size > len(self._node.current)
        self._disk.call("allocate" if grows else "allocate again")
        if grows:
            self._disk.limit(size, self._path)
            self._disk.need(size - len(self._node.current), self._path)
            self._node.resize(size)

    def truncate(self, size: int) -> None:
        self._disk.call("truncate")
        self._node.resize(size)

    def sync(self) -> None:
        self._disk.call("sync")
        self._node.sync()

    def check_place(self) -> None:
        self._disk.check_lock()

    def close(self) -> None:
        return

    def _write_what_fits(self, data: bytes, position: int) -> None:
        """Writes the part of `data` that the disk has room for, if that is not all of it, and raises."""
        end, largest = position + len(data), self._disk.largest
        if largest is not None and end > largest:
            self._node.write(data[: max(0, largest - position)], position)
            self._disk.limit(end, self._path)
        room, size = self._disk.room(), len(self._node.current)
        if room is not None and position + len(data) > size + room:
            self._node.write(data[: max(0, size + room - position)], position)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._path)

    def _cut_off(self, name: str, data: bytes, position: int) -> None:
        try:
            self._disk.call(name)
        except BaseException:
            sectors = self._disk.chance.randint(0, len(data) // SECTOR)
            end = (position // SECTOR + sectors) * SECTOR  # a sector is written whole or not at all
            self._node.write(data[: max(0, end - position)], position)
            raise


def _parent(path: str) -> str:
    return path.rpartition("/")[0]
