"""Answers that wait until the records that they depend on are durable.

A store decides on its newest state, which may be ahead of the disk. So the store queues every answer behind the records in flight, even an
answer without its own record, and resolves the answers in that order.
"""

from collections.abc import Sequence
from typing import cast

import msgspec

from ..errors import StreamError
from ..protocol.decisions.outcomes import Outcome
from .store import Published
from .ticket import Abandoned, Ticket


class Answer(msgspec.Struct, frozen=True):
    """One answer that waits for the records before it.

    Attributes:
        published: the changes of the answer's own record; empty if it has none.
        ticket: the ticket to resolve; None if nobody waits.
        outcome: the ticket's value, unless `refusal` is set.
        refusal: the error that the ticket fails with, or None.
    """

    published: Sequence[Published]
    ticket: Ticket[Outcome] | None
    outcome: Outcome | None
    refusal: StreamError | None

    def resolve(self) -> None:
        """Resolves the ticket, because every record that the answer depends on is durable."""
        if self.ticket is None:
            return
        if self.refusal is not None:
            self.ticket.fail(self.refusal)
        else:
            self.ticket.resolve(cast(Outcome, self.outcome))

    def abandon(self, failure: BaseException) -> None:
        """Fails the ticket with Abandoned, because the store stopped and nobody can know the outcome."""
        if self.ticket is not None:
            self.ticket.fail(Abandoned(failure))
