"""`Watching`: checks of the simulation that run when tickets are done.

Tickets log the exceptions of their callbacks and do not raise them. So a plain callback with an assertion could never end the simulation.
"""

from collections.abc import Callable
from typing import TypeVar

from durable_streams_server.storage.ticket import Ticket

T = TypeVar("T")


class Watching:
    """Runs checks when tickets are done, and raises the errors of those that fail."""

    def __init__(self) -> None:
        self._broken: list[Exception] = []  # of the checks that have failed

    def watch(self, ticket: Ticket[T], check: Callable[[Ticket[T]], None]) -> None:
        """Calls `check` once a ticket is done. If the check fails, the next `raise_broken` raises its error."""

        def call(done: Ticket[T]) -> None:
            try:
                check(done)
            except Exception as error:  # also an error in the check itself
                self._broken.append(error)

        ticket.add_callback(call)

    def raise_broken(self) -> None:
        """Raises the error of the first check that has failed in a callback of a ticket."""
        if self._broken:
            raise self._broken[0]
