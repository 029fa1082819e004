"""Recognises things that are seen more than once, such as the requests of a client that polls.

A request or its response is kept only after the request was received twice. A client that polls sends the same request again and again, but
a reader that catches up asks for each page once, and keeping its requests would be useless.
"""

from collections.abc import Hashable
from typing import Final

_SEEN: Final = 4096  # maximum number of remembered hashes; beyond it, all are forgotten


class Repeats:
    """Remembers the hashes of the last few thousand things."""

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def has_seen(self, thing: Hashable) -> bool:
        """Returns whether `thing` was seen recently, and remembers it. If another thing with the same hash was seen, the result is wrong."""
        mark = hash(thing)
        seen = self._seen
        if mark in seen:
            return True
        if len(seen) >= _SEEN:
            seen.clear()
        seen.add(mark)
        return False
