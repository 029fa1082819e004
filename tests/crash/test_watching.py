"""`Watching`: a check that fails when a ticket is done ends the simulation."""

import pytest

from durable_streams_server.storage.ticket import Ticket
from tests.crash.watching import Watching


def refuse(_: Ticket[int]) -> None:
    raise AssertionError("wrong")


@pytest.mark.parametrize("is_late", [False, True])
def test_failed_check_is_raised(is_late: bool) -> None:
    watching = Watching()
    ticket = Ticket() if is_late else Ticket.of(1)
    watching.watch(ticket, refuse)
    ticket.resolve(1)
    with pytest.raises(AssertionError, match="wrong"):
        watching.raise_broken()


def test_error_in_a_check_is_raised() -> None:
    def fail(_: Ticket[int]) -> None:
        raise KeyError("x")

    watching = Watching()
    watching.watch(Ticket.of(1), fail)
    with pytest.raises(KeyError):
        watching.raise_broken()


def test_check_that_holds_is_not_raised() -> None:
    watching, seen = Watching(), []
    watching.watch(Ticket.of(1), lambda done: seen.append(done.result()))
    watching.raise_broken()
    assert seen == [1]
