"""Offsets: their shape and order, and the numbers in them.

An offset names one position in one incarnation: 16 digits of incarnation, `_`, 16 digits of byte position, so that the
lexicographic order of offsets is the order of positions (PROTOCOL 8). A fork keeps its source's names up to and including
the fork point, and uses its own incarnation past it; because a fork is always younger than its source, the order holds
across the fork point too.
"""

import enum
import re
from typing import Final, NamedTuple

from ..errors import BadRequest
from .limits import MAX_CLOCK_INCARNATION

# An incarnation of more digits was given out by an earlier version under a clock past the year 2286. None is any more.
_SHAPE: Final = re.compile(r"([0-9]{16}|[1-9][0-9]{16,18})_([0-9]{16})")


class Sentinel(enum.Enum):
    """Offsets that name a place and not a position (PROTOCOL 8)."""

    START = "-1"
    NOW = "now"


class Offset(NamedTuple):
    """One position in one incarnation, as a client named it."""

    incarnation: int
    position: int

    def __str__(self) -> str:
        return f"{self.incarnation:016d}_{self.position:016d}"


class Span(NamedTuple):
    """A part of a fork that belongs to an ancestor: positions up to `end` carry the ancestor's incarnation.

    With a fork its newest span is kept; its source has those before it. Earlier versions kept all of them with each fork.
    """

    incarnation: int
    end: int


Lineage = tuple[Span, ...]  #: what is kept of a fork's ancestors, oldest first

ZERO: Final = Offset(0, 0)  #: accepted as the start of any stream


def parse(text: str, what: str = "offset") -> Offset:
    """Parses a minted offset.

    Raises:
        BadRequest: INVALID_OFFSET for anything but the exact shape.
    """
    match = _SHAPE.fullmatch(text)
    if match is None:
        raise BadRequest(f"the {what} is malformed", "INVALID_OFFSET")
    return Offset(int(match[1]), int(match[2]))


def parse_read(text: str) -> Offset | Sentinel:
    """Parses the `offset` of a read: a minted offset, `-1` or `now`."""
    if text == "-1":
        return Sentinel.START
    if text == "now":
        return Sentinel.NOW
    return parse(text)


def next_incarnation(last: int, now: int) -> int:
    """Returns the number of a new incarnation: microseconds of Unix time, or the one after `last` if that is greater.

    A clock cannot use up the 16 digits: past `MAX_CLOCK_INCARNATION` it counts for nothing, and neither does one before 1970.
    """
    return max(last + 1, min(now, MAX_CLOCK_INCARNATION))
