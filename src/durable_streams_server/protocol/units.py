"""The units in which the server counts: bytes, microseconds, and nanoseconds."""

from typing import Final

KIB: Final = 1024  #: bytes
MIB: Final = 1024 * KIB  #: bytes
SECOND: Final = 1_000_000  #: microseconds
MILLISECOND: Final = 1_000  #: microseconds
NANOSECONDS: Final = 1_000_000_000  #: in a second
