"""Finds the next few paths in the order of paths, among very many, in short steps.

A search is a generator that yields None after each step, so that its caller can let other work run in between.
"""

from collections.abc import Generator, Iterable, Iterator
from typing import Final

#: Paths compared in one step, which takes less than 0.1 ms.
STEP: Final = 250

#: The steps of a search.
Steps = Generator[None, None, list[str]]


def smallest(paths: Iterable[str], prefix: str, after: str, limit: int) -> Steps:
    """Yields None after each step, and returns the first `limit` paths in order that begin with `prefix` and come after `after`.

    It holds a few times `limit` paths in memory at most.
    """
    found: list[str] = []
    bound: str | None = None  # at least `limit` paths are not greater than this one
    for count, path in enumerate(paths, 1):
        if count % STEP == 0:
            yield
        if path > after and path.startswith(prefix) and (bound is None or path < bound):
            found.append(path)
            if len(found) > 2 * limit + STEP:
                found = sorted(found)[:limit]
                bound = found[-1]
    return sorted(found)[:limit]


def merged(few: list[str], many: Iterable[str | None], limit: int) -> Iterator[str | None]:
    """Yields the first `limit` different paths of two ordered sources, and None wherever `many` has None.

    Args:
        few: paths in order.
        many: paths in order, with None after each step of its own.
        limit: maximum number of paths.
    """
    left = limit
    waiting = iter(few)
    first = next(waiting, None)
    for path in many:
        if path is None:
            yield None
            continue
        while first is not None and first <= path and left:
            if first < path:
                yield first
                left -= 1
            first = next(waiting, None)
        if not left:
            return
        yield path
        left -= 1
        if not left:
            return
    while first is not None and left:
        yield first
        left -= 1
        first = next(waiting, None)
