"""Tells requests that come again from requests that come once.

A reader that catches up asks for each page once, so it would be useless to keep its requests or their responses. A client that polls
sends the same request again and again. So nothing is kept before it has come twice.
"""

from collections.abc import Hashable
from typing import Final

_SEEN: Final = 4096  # most hashes that are remembered before all are forgotten


class Repeats:
    """Remembers the hashes of the last few thousand things that it was asked about."""

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def has_seen(self, thing: Hashable) -> bool:
        """Returns whether `thing` was seen lately, and remembers it. In rare cases another thing has the same hash."""
        mark = hash(thing)
        seen = self._seen
        if mark in seen:
            return True
        if len(seen) >= _SEEN:
            seen.clear()
        seen.add(mark)
        return False
