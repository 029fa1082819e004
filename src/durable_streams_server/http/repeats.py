"""Recognises things that come more than once, such as the requests of a client that polls.

Requests and responses are kept only after they have come twice. A client that polls sends the same request again and again, but a
reader that catches up asks for each page once, and to keep its requests would be useless.
"""

from collections.abc import Hashable
from typing import Final

_SEEN: Final = 4096  # most hashes that are remembered before all are forgotten


class Repeats:
    """Remembers the hashes of the last few thousand things."""

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def has_seen(self, thing: Hashable) -> bool:
        """Returns whether `thing` was seen lately, and remembers it. If another thing has the same hash, the result is wrong."""
        mark = hash(thing)
        seen = self._seen
        if mark in seen:
            return True
        if len(seen) >= _SEEN:
            seen.clear()
        seen.add(mark)
        return False
