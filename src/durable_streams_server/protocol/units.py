"""The units in which the server counts: bytes, and microseconds."""

from typing import Final

KIB: Final = 1024  #: bytes
MIB: Final = 1024 * KIB  #: bytes
SECOND: Final = 1_000_000  #: microseconds
MILLISECOND: Final = 1_000  #: microseconds
