"""`answer_later`: answers a request once a ticket is done."""

import pytest

from durable_streams_server.errors import Unauthorized
from durable_streams_server.http.gate.permit import OPEN, Permit
from durable_streams_server.http.later import answer_later
from durable_streams_server.storage.ticket import Abandoned, Cancelled, Ticket


def refuse(error: Exception) -> str:
    return f"refused: {error}"


def test_reply_follows_permit() -> None:
    permit: Ticket[Permit] = Ticket()
    reply = answer_later(permit, lambda found: f"admitted {found is OPEN}", refuse)
    assert not reply.done
    permit.resolve(OPEN)
    assert reply.result() == "admitted True"


def test_reply_waits_for_answer_after_permit() -> None:
    answered: Ticket[str] = Ticket()
    reply = answer_later(Ticket.of(OPEN), lambda _: answered, refuse)
    assert not reply.done
    answered.resolve("late")
    assert reply.result() == "late"


def test_refused_permit_becomes_reply() -> None:
    permit: Ticket[Permit] = Ticket()
    reply = answer_later(permit, lambda _: pytest.fail("was answered"), refuse)
    permit.fail(Unauthorized("no token"))
    assert reply.result() == "refused: no token"


def test_failed_answer_becomes_refusal() -> None:
    def answer(_: Permit) -> str:
        raise Unauthorized("changed its mind")

    assert answer_later(Ticket.of(OPEN), answer, refuse).result() == ("refused: changed its mind")


@pytest.mark.parametrize("after_permit", [False, True])
def test_abandoned_request_gets_no_reply(after_permit: bool) -> None:
    abandoned = Abandoned(OSError("disk"))
    permit: Ticket[Permit] = Ticket.of(OPEN) if after_permit else Ticket.failed(abandoned)
    failed: Ticket[str] = Ticket.failed(abandoned)
    with pytest.raises(Abandoned):
        answer_later(permit, lambda _: failed, refuse).result()


def test_cancelled_reply_cancels_permit() -> None:
    permit: Ticket[Permit] = Ticket()
    reply = answer_later(permit, lambda _: pytest.fail("was answered"), refuse)
    reply.cancel()
    with pytest.raises(Cancelled):
        permit.result()
    permit.resolve(OPEN)  # a decision that comes later changes nothing
    with pytest.raises(Cancelled):
        reply.result()


def test_cancelled_reply_cancels_answer() -> None:
    answered: Ticket[str] = Ticket()
    reply = answer_later(Ticket.of(OPEN), lambda _: answered, refuse)
    reply.cancel()
    with pytest.raises(Cancelled):
        answered.result()
    answered.resolve("late")
    with pytest.raises(Cancelled):
        reply.result()
