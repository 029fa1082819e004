"""Records which ancestor each byte of a fork came from, in a linked list that forks share.

A fork adds one link to the list of its source, so each fork costs one link, however deep it is. Links are immutable and interned:
forks with the same ancestors share one object, wherever they were loaded from.

    positions   0 ........ 5 ........ 9 ........ tail
    bytes of    | oldest   | source   | the fork itself
    links                  Ancestry(end 5) <- Ancestry(end 9)

The offset of a position in a part has the incarnation of the part's ancestor. This includes the position at the end of the part, although
the byte there belongs to the next part.
"""

from collections.abc import Iterable
from typing import Final
from weakref import WeakValueDictionary

from ..errors import BadRequest, Gone
from .offsets import ZERO, Lineage, Offset, Span


class Ancestry:
    """The part of a fork that its newest ancestor wrote, linked to the parts before it.

    Call `fork` or `of` to make one, because only these intern it.

    Attributes:
        parent: the part before this one. The parent of `NONE` is `NONE` itself.
        incarnation: the incarnation of the ancestor that wrote the part.
        end: the position at which the part ends. Greater than the end of the parent; -1 in `NONE`.
        depth: the number of streams between the first ancestor and the fork. It can exceed the number of links, because a fork
            inside an ancestor's part drops the links after that part.
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
        # A second link that skips many ancestors makes the search for one take a logarithmic number of steps (Myers, An
        # applicative random-access stack, 1983).
        far = parent._jump
        if parent._length - far._length == far._length - far._jump._length:
            self._jump = far._jump
        else:
            self._jump = parent

    @classmethod
    def of(cls, spans: Iterable[Span]) -> "Ancestry":
        """Returns the ancestry with the given parts, oldest first."""
        found = NONE
        for span in spans:
            found = _link(found, span.incarnation, span.end, found.depth + 1)
        return found

    def fork(self, incarnation: int, position: int) -> "Ancestry":
        """Returns the ancestry of a fork.

        Args:
            incarnation: the incarnation of the source, whose own ancestry this object is.
            position: the fork point, as a position in the source.
        """
        owner = self.owner(position)
        if owner is NONE:
            return _link(self, incarnation, position, self.depth + 1)
        return _link(owner.parent, owner.incarnation, position, self.depth + 1)

    def owner(self, position: int) -> "Ancestry":
        """Returns the part whose incarnation is in the offset of a position, or `NONE` past the last part.

        The byte at `position` belongs to the owner of `position + 1`.
        """
        if self.end < position:
            return NONE
        part = self
        while part.parent.end >= position:
            part = part._jump if part._jump.end >= position else part.parent
        return part

    def runs(self, start: int, end: int) -> list[tuple[int, int, int]]:
        """Returns the incarnation, start and end of each ancestor's bytes between two positions, in order."""
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
        """Returns whether an ancestor has this incarnation."""
        part = self
        while part is not NONE:
            if part.incarnation == incarnation:
                return True
            part = part.parent
        return False

    @property
    def span(self) -> Span:
        """The newest part. A store stores only this part with a fork, because the other parts are stored with the source."""
        return Span(self.incarnation, self.end)

    @property
    def spans(self) -> Lineage:
        """All parts, oldest first."""
        found = []
        part = self
        while part is not NONE:
            found.append(part.span)
            part = part.parent
        return tuple(reversed(found))


NONE: Final = Ancestry(None, 0, -1, 0)  #: the ancestry of a stream that is not a fork

_links: WeakValueDictionary[tuple[Ancestry, int, int, int], Ancestry] = WeakValueDictionary()


def _link(parent: Ancestry, incarnation: int, end: int, depth: int) -> Ancestry:
    """Returns the interned link with these values."""
    key = (parent, incarnation, end, depth)
    link = _links.get(key)
    if link is None:
        link = _links[key] = Ancestry(parent, incarnation, end, depth)
    return link


def mint(incarnation: int, ancestry: Ancestry, position: int) -> str:
    """Returns the offset that names a position in a stream. Each position has exactly one offset.

    Args:
        incarnation: the incarnation of the stream.
        ancestry: the ancestry of the stream.
        position: the position.
    """
    owner = ancestry.owner(position)
    named = incarnation if owner is NONE else owner.incarnation
    return f"{named:016d}_{position:016d}"


def locate(offset: Offset, incarnation: int, ancestry: Ancestry, tail: int) -> int:
    """Returns the position that an offset names in a stream.

    Args:
        offset: the offset.
        incarnation: the incarnation of the stream.
        ancestry: the ancestry of the stream.
        tail: the position after the last byte that the offset may name.

    Raises:
        Gone: OFFSET_GONE, if the offset belongs to an earlier stream at this path.
        BadRequest: INVALID_OFFSET, if the offset was never minted for this stream, or is past the tail.
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
