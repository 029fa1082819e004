"""Reads the readable pages of a damaged LMDB file without LMDB. A repair does so only if both copies of the catalog are damaged.

Nothing in the file is trusted. Each page number is checked, no page is visited twice, and callers must check the CRC of each entry.
The layout is that of LMDB 0.9 on a 64-bit machine.
"""

import struct
import sys
from collections.abc import Iterator
from typing import Final, NamedTuple

from .tables import NAMES

_MAGIC: Final = 0xBEEFC0DE
_ORDER: Final = "<" if sys.byteorder == "little" else ">"
_PAGE: Final = struct.Struct(_ORDER + "QHHHH")  # number, padding, flags, lower, upper
_META: Final = struct.Struct(_ORDER + "IIQQ")  # magic, version, address, size of the map
_TREE: Final = struct.Struct(_ORDER + "IHHQQQQQ")  # padding, flags, depth, counts, root
#: Low and high part of a value size or page number, flags, key size.
_NODE: Final = struct.Struct(_ORDER + "HHHH")
_NUMBER: Final = struct.Struct(_ORDER + "Q")
_BRANCH, _LEAF, _OVERFLOW = 1, 2, 4  # flags of a page
_BIG, _TABLE = 1, 2  # flags of a node
_DEEPEST: Final = 32  # maximum levels of a tree, as in LMDB


class Tree(NamedTuple):
    """The root page of a table, and whether the table is empty."""

    root: int
    is_empty: bool


class Pages:
    """The pages of a damaged LMDB file.

    Args:
        data: all bytes of the file.

    Attributes:
        unread: number of pages and entries that could not be read so far.
        lost_summary: whether one of LMDB's two meta pages is unreadable, so that the newest commit may be lost.
    """

    def __init__(self, data: bytes | memoryview) -> None:
        self._data = memoryview(data)
        self._visited: set[int] = set()
        self.unread = 0
        self.lost_summary = False
        self._size = self._page_size()
        self._count = len(data) // self._size

    def entries(self) -> Iterator[tuple[int, bytes, bytes]]:
        """Yields table, key and value of each entry that the newest readable root leads to."""
        main = self._main_root()
        if main is None:
            self.unread += 1
            return
        names = {name.encode(): table for table, name in enumerate(NAMES)}
        roots = [
            (names[key], tree)
            for key, flags, value in self._walk(main)
            if flags & _TABLE and key in names and (tree := _parse_tree(value)) is not None
        ]
        if len(roots) < len(names):
            self.unread += 1
        for table, tree in roots:
            if not tree.is_empty:
                for key, flags, value in self._walk(tree.root):
                    if not flags & _TABLE:
                        yield table, key, value

    def stray_entries(self) -> Iterator[tuple[bytes, bytes]]:
        """Yields key and value of each entry on pages that `entries` has not visited. Such entries may be outdated."""
        for number in range(2, self._count):
            if number not in self._visited and self._flags(number) == _LEAF:
                for key, flags, value in self._leaf(number):
                    if not flags & _TABLE:
                        yield key, value

    # -- inside -------------------------------------------------------------

    def _page_size(self) -> int:
        """Returns the page size in the first page, or the usual size if that page is damaged."""
        tree = _parse_tree(self._data[_PAGE.size + _META.size :])
        if tree is not None:
            (size,) = struct.unpack_from(_ORDER + "I", self._data, _PAGE.size + _META.size)
            if 512 <= size <= 32768 and not size & (size - 1):
                return int(size)
        return 4096

    def _main_root(self) -> int | None:
        """Returns the number of the root page of LMDB's table of tables, or None if both meta pages are damaged.

        LMDB has two meta pages. The newer of those that can be read is current.
        """
        newest: tuple[int, int] | None = None
        for number in (0, 1):
            start = number * self._size + _PAGE.size
            end = start + _META.size + 2 * _TREE.size + 16
            if end > len(self._data) or _META.unpack_from(self._data, start)[0] != _MAGIC:
                self.lost_summary = True
                continue
            main = _parse_tree(self._data[start + _META.size + _TREE.size :])
            (transaction,) = _NUMBER.unpack_from(self._data, end - 8)
            if main is not None and not main.is_empty and self._is_page(main.root):
                newest = max(newest or (0, 0), (transaction, main.root))
            elif transaction:
                self.lost_summary = True
        return None if newest is None else newest[1]

    def _is_page(self, number: int) -> bool:
        """Returns whether a number is that of a page in the file, other than the two meta pages."""
        return 2 <= number < self._count

    def _flags(self, number: int) -> int:
        """Returns the flags of a page, or 0 if the page number stored in it is wrong."""
        said, _, flags, _, _ = _PAGE.unpack_from(self._data, number * self._size)
        return int(flags) if said == number else 0

    def _walk(self, root: int) -> Iterator[tuple[bytes, int, bytes]]:
        """Yields key, flags and value of each entry in a tree."""
        waiting = [(root, 1)]
        while waiting:
            number, depth = waiting.pop()
            if not self._is_page(number) or number in self._visited or depth > _DEEPEST:
                self.unread += 1
                continue
            flags = self._flags(number)
            if flags not in (_BRANCH, _LEAF):
                self.unread += 1
                continue
            self._visited.add(number)
            if flags == _LEAF:
                yield from self._leaf(number)
            else:
                waiting += [(child, depth + 1) for child in self._children(number)]

    def _nodes(self, number: int) -> Iterator[tuple[int, int, int, bytes]]:
        """Yields the nodes of a page.

        Each is a tuple of the value's size or the low 32 bits of a child's page number, the flags or the high bits of that number, the
        position of the value in the file, and the key.
        """
        start = number * self._size
        _, _, _, lower, _ = _PAGE.unpack_from(self._data, start)
        for at in range(_PAGE.size, min(lower, self._size) - 1, 2):
            (offset,) = struct.unpack_from(_ORDER + "H", self._data, start + at)
            if offset + _NODE.size > self._size:
                self.unread += 1
                continue
            low, high, flags, key_size = _NODE.unpack_from(self._data, start + offset)
            key_end = offset + _NODE.size + key_size
            if key_end > self._size:
                self.unread += 1
                continue
            key = bytes(self._data[start + offset + _NODE.size : start + key_end])
            yield low | high << 16, flags, start + key_end, key

    def _children(self, number: int) -> list[int]:
        """Returns the page numbers of a branch page's children."""
        return [size | flags << 32 for size, flags, _, _ in self._nodes(number)]

    def _leaf(self, number: int) -> Iterator[tuple[bytes, int, bytes]]:
        """Yields key, flags and value of each readable entry on a leaf page."""
        end = (number + 1) * self._size
        for size, flags, at, key in self._nodes(number):
            if flags & _BIG:
                value = self._overflow_value(at, size)
            else:
                value = bytes(self._data[at : at + size]) if at + size <= end else None
            if value is None:
                self.unread += 1
            else:
                yield key, flags, value

    def _overflow_value(self, at: int, size: int) -> bytes | None:
        """Returns a value that is stored on overflow pages, or None if these are damaged.

        Args:
            at: the position in the file of the overflow page's number.
            size: the size of the value in bytes.
        """
        if at + 8 > len(self._data):
            return None
        (number,) = _NUMBER.unpack_from(self._data, at)
        if not self._is_page(number) or self._flags(number) != _OVERFLOW:
            return None
        start = number * self._size + _PAGE.size
        if start + size > len(self._data):
            return None
        self._visited.update(range(number, number + (_PAGE.size + size - 1) // self._size + 1))
        return bytes(self._data[start : start + size])


def _parse_tree(data: bytes | memoryview) -> Tree | None:
    """Returns the tree that a table's record describes, or None if the record is too short."""
    if len(data) < _TREE.size:
        return None
    *_, entries, root = _TREE.unpack_from(data)
    return Tree(root, entries == 0)
