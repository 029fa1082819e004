"""Tells what comes again from what comes once.

A reader that catches up asks for each page once, so to keep what it asked, or what it was told, is work for nothing. What a client
polls for comes again and again. So nothing is kept before it comes for the second time.
"""

from collections.abc import Hashable
from typing import Final

_SEEN: Final = 4096  # hashes that are remembered; then it begins anew


class Repeats:
    """Says whether something has come before. It remembers the hashes of the last few thousand things."""

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def again(self, thing: Hashable) -> bool:
        """Returns whether a thing came lately, and notes it. On rare occasions the hash of another is taken for its own."""
        mark = hash(thing)
        seen = self._seen
        if mark in seen:
            return True
        if len(seen) >= _SEEN:
            seen.clear()
        seen.add(mark)
        return False
