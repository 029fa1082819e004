"""The paths of a stream's log and its index, and `Extent`, the part of a log that the catalog vouches for."""

from typing import Final, NamedTuple

DIRECTORY: Final = "logs"
#: Suffix of the file beside a damaged log that holds the pieces which checkpoints could not add to it.
KEPT: Final = ".kept"


class Extent(NamedTuple):
    """The part of a log that the catalog vouches for.

    Attributes:
        base: the position in the stream at which the log begins.
        tail: the position in the stream at which the log ends.
        entries: the number of entries in the log's index.
    """

    base: int
    tail: int
    entries: int


def path_of(incarnation: int) -> str:
    """Returns the path of a stream's log. The path of its index is the same with `.idx` appended."""
    return f"{directory_of(incarnation)}/{incarnation:016d}"


def directory_of(incarnation: int) -> str:
    """Returns the directory of a stream's log, one of 256, chosen by hashing the incarnation number."""
    return f"{DIRECTORY}/{(incarnation * 2654435761 >> 16) & 0xFF:02x}"
