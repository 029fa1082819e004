"""Tests of answers that wait until the records before them are durable."""

import pytest

from durable_streams_server.errors import NotFound
from durable_streams_server.protocol.decisions.outcomes import DeleteOutcome, Outcome
from durable_streams_server.storage.answers import Answer
from durable_streams_server.storage.ticket import Abandoned, Ticket

OUTCOME = DeleteOutcome(expired=False)


def test_answer_with_an_outcome_resolves_its_ticket() -> None:
    ticket: Ticket[Outcome] = Ticket()
    Answer((), ticket, OUTCOME, None).resolve()
    assert ticket.result() is OUTCOME


def test_answer_with_a_refusal_fails_its_ticket() -> None:
    ticket: Ticket[Outcome] = Ticket()
    Answer((), ticket, None, NotFound("there is no stream at this path")).resolve()
    with pytest.raises(NotFound):
        ticket.result()


def test_abandoned_answer_fails_its_ticket_with_the_cause() -> None:
    ticket: Ticket[Outcome] = Ticket()
    cause = OSError("the disk failed")
    Answer((), ticket, OUTCOME, None).abandon(cause)
    with pytest.raises(Abandoned) as caught:
        ticket.result()
    assert caught.value.cause is cause


def test_answer_without_a_ticket_does_nothing() -> None:
    answer = Answer((), None, None, None)
    answer.resolve()
    answer.abandon(OSError("the disk failed"))
