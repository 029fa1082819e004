"""Patterns over stream paths, and an index that finds all that match one path (PROTOCOL 6.2).

`*` is one segment, `**` any number of them, none included. A `*` inside a segment stands for any characters of that segment.

The index is a trie of segments. A path is matched by walking it with every node that can be reached at once, so the cost
follows the path's length and the patterns that still match, not the number of patterns.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, Generic, TypeVar

from ...errors import BadRequest
from ..limits import MAX_PATH_BYTES
from ..paths import check_path

T = TypeVar("T")

ONE: Final = "*"
ANY: Final = "**"


def check_pattern(pattern: str) -> str:
    """Returns a pattern unchanged, if it can match a path, else raises BadRequest with INVALID_PATTERN."""
    try:
        check_path("/" + pattern)
    except BadRequest:
        raise _invalid(
            f"must be a path of up to {MAX_PATH_BYTES} bytes without empty or dot segments"
        ) from None
    segments = pattern.split("/")
    if "" in segments:
        raise _invalid("has an empty segment")
    if any(ANY in segment and segment != ANY for segment in segments):
        raise _invalid("has ** beside other characters in one segment")
    return pattern


def matches(pattern: str, path: str) -> bool:
    """Whether one pattern matches a path, both without a leading slash."""
    index: Globs[None] = _alone(pattern)
    return next(index.matching(path), index) is None


class _Node(Generic[T]):
    """What may follow one part of a pattern."""

    __slots__ = ("any", "is_any", "items", "literal", "partial")

    def __init__(self, is_any: bool = False) -> None:
        self.literal: dict[str, _Node[T]] = {}
        self.partial: dict[str, tuple[re.Pattern[str], _Node[T]]] = {}
        self.any: _Node[T] | None = None
        self.is_any = is_any
        self.items: dict[T, None] = {}

    @property
    def is_empty(self) -> bool:
        return not (self.literal or self.partial or self.any or self.items)


class Globs(Generic[T]):
    """Items by pattern."""

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()

    def add(self, pattern: str, item: T) -> None:
        """Adds an item under a pattern."""
        node = self._root
        for segment in pattern.split("/"):
            node = _child(node, segment)
        node.items[item] = None

    def remove(self, pattern: str, item: T) -> None:
        """Takes out what `add` put in."""
        node, way = self._root, []
        for segment in pattern.split("/"):
            way.append((node, segment))
            node = _child(node, segment)
        node.items.pop(item, None)
        for parent, segment in reversed(way):
            if not _child(parent, segment).is_empty:
                return
            _drop(parent, segment)

    def matching(self, path: str) -> Iterator[T]:
        """Yields the items whose patterns match a path, each once for each of its patterns."""
        for group in self.groups(path):
            yield from group

    def groups(self, path: str) -> list[dict[T, None]]:
        """Returns the items of each pattern that matches a path. The groups are live until a pattern is added or removed."""
        active = _reach([self._root])
        for segment in path.split("/"):
            following: dict[_Node[T], None] = {}
            for node in active:
                if node.is_any:
                    following[node] = None
                child = node.literal.get(segment)
                if child is not None:
                    following[child] = None
                for expression, child in node.partial.values():
                    if expression.fullmatch(segment):
                        following[child] = None
            if not following:
                return []
            active = _reach(following)
        return [node.items for node in active if node.items]


def _reach(nodes: "list[_Node[T]] | dict[_Node[T], None]") -> "dict[_Node[T], None]":
    """Adds the nodes that are reached without a segment: past `**`."""
    reached = dict.fromkeys(nodes)
    for node in nodes:
        while node.any is not None and node.any not in reached:
            node = node.any
            reached[node] = None
    return reached


def _child(node: _Node[T], segment: str) -> _Node[T]:
    if segment == ANY:
        if node.any is None:
            node.any = _Node(is_any=True)
        return node.any
    if ONE in segment:
        if segment not in node.partial:
            node.partial[segment] = (_expression(segment), _Node())
        return node.partial[segment][1]
    return node.literal.setdefault(segment, _Node())


def _drop(node: _Node[T], segment: str) -> None:
    if segment == ANY:
        node.any = None
    elif ONE in segment:
        del node.partial[segment]
    else:
        del node.literal[segment]


def _expression(segment: str) -> re.Pattern[str]:
    """Each part is sought once, where it first stands (an atomic group): nothing later could fit better, and going back to try
    would cost more with each star."""
    if segment == ONE:
        return re.compile(".+", re.DOTALL)
    first, *middle, last = (re.escape(part) for part in segment.split(ONE))
    sought = "".join(f"(?>.*?{part})" for part in middle)
    return re.compile(f"{first}{sought}.*{last}", re.DOTALL)


@lru_cache(maxsize=256)
def _alone(pattern: str) -> Globs[None]:
    index: Globs[None] = Globs()
    index.add(pattern, None)
    return index


def _invalid(what: str) -> BadRequest:
    return BadRequest(f"the pattern {what}", "INVALID_PATTERN")
