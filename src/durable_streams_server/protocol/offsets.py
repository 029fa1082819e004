"""Parses and orders offsets, and chooses the numbers of new incarnations.

An offset names one position in one incarnation. It consists of 16 digits of incarnation, `_`, and 16 digits of byte position, so
the lexicographic order of offsets is the order of positions (PROTOCOL 8). A fork keeps the offsets of its source up to and
including the fork point, and uses its own incarnation after it. A fork is always younger than its source, so the order also holds
across the fork point.
"""

import enum
import re
from typing import Final, NamedTuple

from ..errors import BadRequest
from .limits import MAX_CLOCK_INCARNATION

# Incarnations of more than 16 digits come from an earlier version whose clock was past the year 2286.
_SHAPE: Final = re.compile(r"([0-9]{16}|[1-9][0-9]{16,18})_([0-9]{16})")


class Sentinel(enum.Enum):
    """Offsets that stand for the start or the tail of any stream (PROTOCOL 8)."""

    START = "-1"
    NOW = "now"


class Offset(NamedTuple):
    """An offset: one position in one incarnation."""

    incarnation: int
    position: int

    def __str__(self) -> str:
        return f"{self.incarnation:016d}_{self.position:016d}"


class Span(NamedTuple):
    """A part of a fork's bytes that an ancestor wrote. Offsets up to the position `end` carry the ancestor's incarnation.

    A store keeps only the newest span with a fork, because the source has the others. Earlier versions kept all spans with each fork.
    """

    incarnation: int
    end: int


Lineage = tuple[Span, ...]  #: the spans that a store keeps with a fork, oldest first

ZERO: Final = Offset(0, 0)  #: the start of any stream


def parse(text: str, what: str = "offset") -> Offset:
    """Parses an offset that names a position.

    Args:
        text: the offset.
        what: the name of the offset in the error message.

    Raises:
        BadRequest: INVALID_OFFSET, if the text does not have the exact format.
    """
    match = _SHAPE.fullmatch(text)
    if match is None:
        raise BadRequest(f"the {what} is malformed", "INVALID_OFFSET")
    return Offset(int(match[1]), int(match[2]))


def parse_read(text: str) -> Offset | Sentinel:
    """Parses the `offset` of a read, which names a position, or is `-1` or `now`.

    Raises:
        BadRequest: INVALID_OFFSET.
    """
    if text == "-1":
        return Sentinel.START
    if text == "now":
        return Sentinel.NOW
    return parse(text)


def next_incarnation(last: int, now: int) -> int:
    """Returns the number of a new incarnation: microseconds of Unix time, or `last` + 1 if that is greater.

    `now` is clamped to `MAX_CLOCK_INCARNATION`, so a wrong clock cannot use up the 16 digits.

    Args:
        last: the greatest incarnation so far.
        now: microseconds of Unix time.
    """
    return max(last + 1, min(now, MAX_CLOCK_INCARNATION))
