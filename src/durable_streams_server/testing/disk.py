"""A simulated disk that tears writes, loses unsynced bytes and names, and fails at any call that a test chooses.

The disk has a durable state, and later changes in the cache of the operating system. A crash of the process loses neither. A power loss
keeps the durable state and a random subset of the cached changes, sector by sector and name by name.
"""

import errno
import os
import random
from collections.abc import Callable, Iterable
from typing import Final

from ..storage.files.disk import Disk, File
from ..storage.files.place import DirectoryLost

#: Bytes that a disk writes completely or not at all.
SECTOR: Final = 512


class PowerLoss(BaseException):
    """The power of the machine failed during a disk call."""


class Node:
    """The content of one file.

    Attributes:
        durable: the bytes that survive a power loss for certain.
        current: the bytes that the process reads.
        unsynced: the writes since the last sync, as positions and bytes, each within one sector.
        sizes: the sizes that the file has had since the last sync.
    """

    def __init__(self) -> None:
        self.durable = bytearray()
        self.current = bytearray()
        self.unsynced: list[tuple[int, bytes]] = []
        self.sizes: list[int] = []

    def write(self, data: bytes, position: int) -> None:
        if len(self.current) < position + len(data):
            self.current.extend(bytes(position + len(data) - len(self.current)))
            self.sizes.append(len(self.current))
        self.current[position : position + len(data)] = data
        at = 0
        while at < len(data):
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
        """Makes a random subset of the unsynced writes durable and loses the rest."""
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
    """A disk in memory whose faults a test controls.

    Args:
        chance: decides what a power loss keeps.
        capacity: the maximum number of bytes of all files together, or None for no limit.

    Attributes:
        capacity: the maximum that was given, which a test may change.
        largest: the maximum size of a file in bytes, or None for no limit.
        tells_largest: whether `largest_file` returns that maximum.
        before: called with the name of each call before the call has any effect. It may raise PowerLoss or an OSError. A write that
            fails in this way has written some of its sectors.
        catalog: the tables of a simulated catalog on this disk.
        calls: the number of calls so far.
        lost: whether the directory counts as moved away.
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
        self._names: dict[str, Node] = {}  # the files that the process sees
        self._durable: dict[str, Node] = {}  # the files whose names are durable
        # The unsynced changes of names: the directory, the path, and the node that the path has now, or None.
        self._changes: list[tuple[str, str, Node | None]] = []

    def call(self, name: str) -> None:
        """Counts a call, and passes its name to `before`, which may raise."""
        self.calls += 1
        self.before(name)

    @property
    def used(self) -> int:
        """The number of bytes in all files."""
        return sum(len(node.current) for node in self._names.values())

    def room(self) -> int | None:
        return None if self.capacity is None else max(0, self.capacity - self.used)

    def largest_file(self) -> int | None:
        return self.largest if self.tells_largest else None

    def limit(self, size: int, name: str) -> None:
        """Raises EFBIG if `size` is more than a file may have."""
        if self.largest is not None and size > self.largest:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), name)

    def need(self, size: int, name: str) -> None:
        """Raises ENOSPC if the disk has no room for `size` more bytes."""
        room = self.room()
        if room is not None and size > room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)

    def lose_power(self) -> None:
        """Loses a random subset of the unsynced bytes and names."""
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
        """Flips one bit of a file, durably."""
        for content in (self._names[path].durable, self._names[path].current):
            if position < len(content):
                content[position] ^= 1 << bit

    def paths(self) -> list[str]:
        """Returns the paths of all files."""
        return sorted(self._names)

    def content(self, path: str) -> bytes:
        """Returns the bytes of a file."""
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
    """An open file of a simulated disk.

    Args:
        disk: the disk.
        node: the content of the file.
        path: the path of the file, for errors.
    """

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
        """Writes as much of `data` as fits and raises, if the disk has no room for all of it. Otherwise writes nothing."""
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
            end = (position // SECTOR + sectors) * SECTOR  # only whole sectors are written
            self._node.write(data[: max(0, end - position)], position)
            raise


def _parent(path: str) -> str:
    return path.rpartition("/")[0]
