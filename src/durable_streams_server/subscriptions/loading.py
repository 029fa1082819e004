"""Runs work on many items in short slices, and loads many streams into memory that way.

The store makes each decision in one step. A decision about a thousand streams that are not in memory would read them all from
the catalog, and block the event loop meanwhile. So the streams are loaded first, in slices that share the loop with other long work.
The decision then finds most of them in memory, and loads the few that were evicted in the meantime.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Final, TypeVar

from ..storage.store import Store
from ..storage.ticket import Ticket
from ..streams.turns import Turns

T = TypeVar("T")

#: Items in one slice. A slice takes less than a millisecond, even if each item loads a stream.
FEW: Final = 16


def in_slices(turns: Turns, items: Iterable[T], do: Callable[[T], Ticket[Any]]) -> Ticket[None]:
    """Calls `do` with each item in order, and waits for each ticket before the next call. One slice has at most `FEW` items.

    Returns:
        A ticket that resolves when all items are done. It fails with the first error, and then the remaining items are skipped.
    """
    ticket: Ticket[None] = Ticket()
    waiting: Iterator[T] = iter(items)

    def step() -> bool:
        """Runs one slice, and returns whether another slice can run immediately."""
        if ticket.done:
            return False
        count = 0
        for item in islice(waiting, FEW):
            count += 1
            done = do(item)
            if not done.done:
                done.add_callback(resume)
                return False
            if not _succeeded(done, ticket):
                return False
        if count < FEW:
            ticket.resolve(None)
        return count == FEW

    def resume(done: Ticket[Any]) -> None:
        if _succeeded(done, ticket):
            turns.add(step)

    if step():
        turns.add(step)
    return ticket


def _succeeded(done: Ticket[Any], ticket: Ticket[None]) -> bool:
    """Returns whether the ticket `done` has a value. If it has an error instead, fails `ticket` with that error."""
    try:
        done.result()
    except Exception as error:
        ticket.fail(error)
        return False
    return True


def load(store: Store, turns: Turns, paths: Iterable[str]) -> Ticket[None]:
    """Loads streams into memory. Skips a stream that cannot be read, because the decision will report the error."""
    return in_slices(turns, paths, lambda path: _ignoring_errors(store.find(path)))


def _ignoring_errors(found: Ticket[T]) -> Ticket[object]:
    """Returns a ticket that resolves when `found` is done, even if `found` fails."""
    if found.done:
        return Ticket.of(None)
    settled: Ticket[object] = Ticket()
    found.add_callback(lambda _: settled.resolve(None))
    return settled
