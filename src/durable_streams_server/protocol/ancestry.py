"""Whose bytes a fork begins with: its ancestors' parts of it, as a linked list that forks share.

A fork adds one link to what its source has, so the forks of a stream cost one link each, however deep they are. Links are
interned: the same ancestors are the same object, from wherever they were loaded. They are never changed.

    positions   0 ........ 5 ........ 9 ........ tail
    bytes of    | oldest   | source   | the fork itself
    links                  Ancestry(end 5) <- Ancestry(end 9)

A position's name is the ancestor's up to and including its part's end; the byte at that position is the next one's already.
"""

from collections.abc import Iterable
from typing import Final
from weakref import WeakValueDictionary

from ..errors import BadRequest, Gone
from .offsets import ZERO, Lineage, Offset, Span


class Ancestry:
    """The newest ancestor's part, linked to those before it. Made by `fork` and `of`, never directly.

    Attributes:
        parent: the part before it; `NONE` has itself.
        incarnation: the ancestor that the part belongs to.
        end: the position that the part ends at; greater than the parent's, and -1 in `NONE`.
        depth: how many streams a fork with this ancestry was forked through. That may be more than there are links, because
            a fork inside an ancestor's part drops the links past it.
    """

    __slots__ = ("__weakref__", "_jump", "_length", "depth", "end", "incarnation", "parent")

    def __init__(self, parent: "Ancestry | None", incarnation: int, end: int, depth: int) -> None:
        self.incarnation = incarnation
        self.end = end
        self.depth = depth
        if parent is None:
            self.parent = self._jump = self
            self._length = 0
            return
        self.parent = parent
        self._length = parent._length + 1
        # A second link, further back: with these, any ancestor is found in a number of hops that grows with the logarithm of
        # the length (Myers, An applicative random-access stack, 1983).
        far = parent._jump
        if parent._length - far._length == far._length - far._jump._length:
            self._jump = far._jump
        else:
            self._jump = parent

    @classmethod
    def of(cls, spans: Iterable[Span]) -> "Ancestry":
        """Returns the ancestry that consists of these parts, the oldest first."""
        found = NONE
        for span in spans:
            found = _link(found, span.incarnation, span.end, found.depth + 1)
        return found

    def fork(self, incarnation: int, position: int) -> "Ancestry":
        """Returns the ancestry of a fork at a position of the stream of `incarnation`, whose own ancestry this is."""
        owner = self.owner(position)
        if owner is NONE:
            return _link(self, incarnation, position, self.depth + 1)
        return _link(owner.parent, owner.incarnation, position, self.depth + 1)

    def owner(self, position: int) -> "Ancestry":
        """Returns the part whose ancestor names a position; `NONE` past the last part. The byte at a position belongs to the
        owner of the next position."""
        if self.end < position:
            return NONE
        part = self
        while part.parent.end >= position:
            part = part._jump if part._jump.end >= position else part.parent
        return part

    def runs(self, start: int, end: int) -> list[tuple[int, int, int]]:
        """Returns whose bytes lie between two positions, as far as they are ancestors': incarnation, start, end, in order."""
        end = min(end, self.end)
        if end <= start:
            return []
        found: list[tuple[int, int, int]] = []
        part = self.owner(end)
        while end > start:
            begin = max(start, part.parent.end)
            found.append((part.incarnation, begin, end))
            end, part = begin, part.parent
        found.reverse()
        return found

    def includes(self, incarnation: int) -> bool:
        """Whether an incarnation is one of the ancestors'."""
        part = self
        while part is not NONE:
            if part.incarnation == incarnation:
                return True
            part = part.parent
        return False

    @property
    def span(self) -> Span:
        """The newest part: what a fork adds to its source's ancestry, and all that is kept with a fork."""
        return Span(self.incarnation, self.end)

    @property
    def spans(self) -> Lineage:
        """All parts, the oldest first."""
        found = []
        part = self
        while part is not NONE:
            found.append(part.span)
            part = part.parent
        return tuple(reversed(found))


NONE: Final = Ancestry(None, 0, -1, 0)  #: the ancestry of a stream that is no fork

_links: WeakValueDictionary[tuple[Ancestry, int, int, int], Ancestry] = WeakValueDictionary()


def _link(parent: Ancestry, incarnation: int, end: int, depth: int) -> Ancestry:
    key = (parent, incarnation, end, depth)
    link = _links.get(key)
    if link is None:
        link = _links[key] = Ancestry(parent, incarnation, end, depth)
    return link


def mint(incarnation: int, ancestry: Ancestry, position: int) -> str:
    """Returns the one name of a position in the stream of `incarnation`."""
    owner = ancestry.owner(position)
    named = incarnation if owner is NONE else owner.incarnation
    return f"{named:016d}_{position:016d}"


def locate(offset: Offset, incarnation: int, ancestry: Ancestry, tail: int) -> int:
    """Returns the position that `offset` names in the stream of `incarnation`.

    Raises:
        Gone: OFFSET_GONE when the offset belongs to an earlier life of the path.
        BadRequest: INVALID_OFFSET when it was never minted for this stream, or lies past the tail.
    """
    if offset == ZERO:
        return 0
    owner = ancestry.owner(offset.position)
    if offset.incarnation == incarnation:
        if owner is NONE and offset.position <= tail:
            return offset.position
    elif owner is not NONE and offset.incarnation == owner.incarnation:
        return offset.position
    elif offset.incarnation < incarnation and not ancestry.includes(offset.incarnation):
        raise Gone("the offset belongs to an earlier stream at this path", "OFFSET_GONE")
    raise BadRequest("the offset is outside the stream", "INVALID_OFFSET")
