"""Brings streams into memory, a few at a time, before a decision that looks at all of them.

A decision is made in one go. One about a thousand streams that are not in memory would load them all, one catalog entry after the
other, while the loop stands still. So they are loaded in slices that stand in line with other long work. What is decided then
finds them in memory, or loads the few that have been let go meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Final, TypeVar

from ..storage.store import Store
from ..storage.ticket import Ticket
from ..streams.turns import Turns

T = TypeVar("T")

FEW: Final = (
    16  # things that are done at once: less than a millisecond, also if each loads a stream
)


def in_slices(turns: Turns, things: Iterable[T], do: Callable[[T], Ticket[Any]]) -> Ticket[None]:
    """Does something with each of many things, one after the other, at most `FEW` in one turn of the line.

    Returns:
        A ticket that resolves when all are done, and fails with the first failure.
    """
    ticket: Ticket[None] = Ticket()
    waiting: Iterator[T] = iter(things)

    def step() -> bool:
        """Takes one slice; returns whether the next is to follow at once."""
        if ticket.done:
            return False
        count = 0
        for thing in islice(waiting, FEW):
            count += 1
            done = do(thing)
            if not done.done:
                done.add_callback(go_on)
                return False
            if not _passed(done, ticket):
                return False
        if count < FEW:
            ticket.resolve(None)
        return count == FEW

    def go_on(done: Ticket[Any]) -> None:
        if _passed(done, ticket):
            turns.add(step)

    if step():
        turns.add(step)
    return ticket


def _passed(done: Ticket[Any], ticket: Ticket[None]) -> bool:
    try:
        done.result()
    except Exception as error:
        ticket.fail(error)
        return False
    return True


def load(store: Store, turns: Turns, paths: Iterable[str]) -> Ticket[None]:
    """Brings streams into memory. One that cannot be read is passed over: the decision sees for itself."""
    return in_slices(turns, paths, lambda path: _settled(store.find(path)))


def _settled(found: Ticket[T]) -> Ticket[object]:
    """Returns a ticket that resolves when another is done, whatever became of it."""
    if found.done:
        return Ticket.of(None)
    settled: Ticket[object] = Ticket()
    found.add_callback(lambda _: settled.resolve(None))
    return settled
