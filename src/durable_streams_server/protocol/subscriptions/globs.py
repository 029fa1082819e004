"""Glob patterns for stream paths, and an index that finds all patterns that match a path (PROTOCOL 6.2).

`*` matches one segment, and `**` matches any number of segments, including none. A `*` inside a segment matches any characters of
that segment.

The index is a trie of segments. A lookup follows all matching branches at once, so its cost grows with the length of the path and
the number of patterns that still match, and not with the number of all patterns.
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
    """Returns a pattern unchanged, after checking that it can match a path.

    Raises:
        BadRequest: INVALID_PATTERN.
    """
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
    """Returns whether a pattern matches a path. Neither has a leading slash."""
    index: Globs[None] = _alone(pattern)
    return next(index.matching(path), index) is None


class _Node(Generic[T]):
    """A node of the trie: the segments that can follow one prefix of patterns."""

    __slots__ = ("any", "is_any", "items", "literal", "partial")

    def __init__(self, is_any: bool = False) -> None:
        self.literal: dict[str, _Node[T]] = {}
        self.partial: dict[str, tuple[re.Pattern[str], _Node[T]]] = {}
        self.any: _Node[T] | None = None
        self.is_any = is_any
        self.items: dict[T, None] = {}

    @property
    def is_empty(self) -> bool:
        """Whether the node has neither items nor following segments."""
        return not (self.literal or self.partial or self.any or self.items)


class Globs(Generic[T]):
    """An index of items by pattern."""

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()

    def add(self, pattern: str, item: T) -> None:
        """Adds an item with its pattern."""
        node = self._root
        for segment in pattern.split("/"):
            node = _child(node, segment)
        node.items[item] = None

    def remove(self, pattern: str, item: T) -> None:
        """Removes an item that was added with this pattern."""
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
        """Yields the items whose patterns match a path. An item is yielded once for each of its patterns that match."""
        for group in self.groups(path):
            yield from group

    def groups(self, path: str) -> list[dict[T, None]]:
        """Returns one dict of items for each pattern that matches a path.

        The dicts change with their patterns' items, and are valid until a pattern is added or removed.
        """
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
    """Returns the given nodes, and the nodes that `**` reaches from them without using up a segment."""
    reached = dict.fromkeys(nodes)
    for node in nodes:
        while node.any is not None and node.any not in reached:
            node = node.any
            reached[node] = None
    return reached


def _child(node: _Node[T], segment: str) -> _Node[T]:
    """Returns the node after a segment of a pattern, and creates it if necessary."""
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
    """Removes the node after a segment of a pattern."""
    if segment == ANY:
        node.any = None
    elif ONE in segment:
        del node.partial[segment]
    else:
        del node.literal[segment]


def _expression(segment: str) -> re.Pattern[str]:
    """Returns the regular expression for a segment with stars.

    Each literal part matches at its first occurrence, in an atomic group. A later occurrence could never match more paths, and
    backtracking would multiply the cost with each star.
    """
    if segment == ONE:
        return re.compile(".+", re.DOTALL)
    first, *middle, last = (re.escape(part) for part in segment.split(ONE))
    sought = "".join(f"(?>.*?{part})" for part in middle)
    return re.compile(f"{first}{sought}.*{last}", re.DOTALL)


@lru_cache(maxsize=256)
def _alone(pattern: str) -> Globs[None]:
    """Returns an index with one pattern."""
    index: Globs[None] = Globs()
    index.add(pattern, None)
    return index


def _invalid(what: str) -> BadRequest:
    return BadRequest(f"the pattern {what}", "INVALID_PATTERN")
