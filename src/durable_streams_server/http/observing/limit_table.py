"""`LimitTable`: the limits of a server, each with a function that tells how much of it is in use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple


class LimitInUse(NamedTuple):
    """A limit and its use.

    Attributes:
        name: a fixed name, in the words of `docs/limits.md`. It must not depend on a stream, a client or an address.
        limit: returns the limit.
        used: returns how much of the limit is in use. It is called on the event loop at each scrape, so it must take microseconds.
    """

    name: str
    limit: Callable[[], float]
    used: Callable[[], float]


class LimitTable:
    """The limits of one application. Whoever enforces a limit adds it, and `/metrics` shows each limit beside its use."""

    def __init__(self) -> None:
        self._limits: dict[str, LimitInUse] = {}
        self._refusals: dict[str, Callable[[], int]] = {}

    def add(self, name: str, limit: Callable[[], float], used: Callable[[], float]) -> None:
        """Adds a limit, or replaces the one with this name. For arguments see `LimitInUse`."""
        self._limits[name] = LimitInUse(name, limit, used)

    def add_refusals(self, name: str, refused: Callable[[], int]) -> None:
        """Adds a function that returns how many requests a limit has refused. The limit need not be in the table. Rates, for example, are not."""
        self._refusals[name] = refused

    @property
    def refusals(self) -> list[tuple[str, int]]:
        """The name of each limit that counts its refusals, and the number of refused requests."""
        return [(name, self._refusals[name]()) for name in sorted(self._refusals)]

    def __iter__(self) -> Iterator[LimitInUse]:
        """Iterates over the limits in the order of their names."""
        return iter([self._limits[name] for name in sorted(self._limits)])
