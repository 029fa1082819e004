"""`Gate`: the checks that every request passes before it reaches a route."""

import pytest

from durable_streams_server.errors import Forbidden, TooManyRequests, Unauthorized
from durable_streams_server.http.gate.gate import Gate
from durable_streams_server.http.gate.permit import ANYONE, OPEN, Permit
from durable_streams_server.http.request import KnownHead, Request
from durable_streams_server.storage.ticket import Ticket
from tests.http.gate.deciding import Deciding

REQUEST = Request("GET", b"/v1/stream/a", b"", {})


class Counting:
    """Limits that note what they are asked, and refuse clients named `greedy`."""

    def __init__(self) -> None:
        self.asked: list[tuple[str | None, str | None]] = []

    def check(self, request: Request, permit: Permit, peer: str | None) -> Permit:
        self.asked.append((permit.client, peer))
        if permit.client == "greedy":
            raise TooManyRequests("too many appends", retry_after=1)
        return permit

    def check_head(self, request: Request, permit: Permit, peer: str | None) -> None:
        self.check(request, permit, peer)


def refuse_host(request: Request) -> None:
    raise Forbidden("another host")


def test_gate_without_checks_admits_every_request() -> None:
    assert Gate().admit(REQUEST, "192.0.2.1") is OPEN


def test_first_refusal_ends_checks() -> None:
    limits = Counting()
    gate = Gate([refuse_host], Deciding(lambda _: pytest.fail("asked about rights")), limits)
    with pytest.raises(Forbidden):
        gate.admit(REQUEST, None)
    assert limits.asked == []


def test_limits_count_under_client_of_permit() -> None:
    limits = Counting()
    permit = Permit("token:a")
    assert Gate((), Deciding(lambda _: permit), limits).admit(REQUEST, "192.0.2.1") is permit
    assert limits.asked == [("token:a", "192.0.2.1")]
    with pytest.raises(TooManyRequests):
        Gate((), Deciding(lambda _: Permit("greedy")), limits).admit(REQUEST, None)


def test_limits_are_checked_after_permit_that_waits() -> None:
    limits = Counting()
    waiting: Ticket[Permit] = Ticket()
    admitted = Gate((), Deciding(lambda _: waiting), limits).admit(REQUEST, "192.0.2.1")
    assert isinstance(admitted, Ticket)
    assert (admitted.done, limits.asked) == (False, [])
    waiting.resolve(Permit("token:a"))
    assert admitted.result() == Permit("token:a")
    assert limits.asked == [("token:a", "192.0.2.1")]


def test_limits_are_not_checked_after_permit_fails() -> None:
    limits = Counting()
    failed: Ticket[Permit] = Ticket.failed(Unauthorized("no token"))
    admitted = Gate((), Deciding(lambda _: failed), limits).admit(REQUEST, None)
    assert isinstance(admitted, Ticket)
    with pytest.raises(Unauthorized):
        admitted.result()
    assert limits.asked == []


def test_head_is_checked_like_whole_request() -> None:
    limits = Counting()
    with pytest.raises(Forbidden):
        Gate([refuse_host], None, limits).check_head(REQUEST, None)
    Gate((), Deciding(lambda _: Permit("token:a")), limits).check_head(REQUEST, "192.0.2.1")
    Gate((), Deciding(lambda _: Ticket.of(Permit("token:b"))), limits).check_head(REQUEST, None)
    assert limits.asked == [("token:a", "192.0.2.1"), ("token:b", None)]
    with pytest.raises(TooManyRequests):
        Gate((), Deciding(lambda _: Permit("greedy")), limits).check_head(REQUEST, None)
    with pytest.raises(Unauthorized):
        Gate((), Deciding(lambda _: Ticket.failed(Unauthorized("no token")))).check_head(
            REQUEST, None
        )


def test_head_passes_while_permit_waits() -> None:
    limits = Counting()
    Gate((), Deciding(lambda _: Ticket()), limits).check_head(REQUEST, None)
    Gate().check_head(REQUEST, None)
    assert limits.asked == []


def known() -> Request:
    """Returns a request with a head that was received before."""
    return Request("POST", b"/v1/stream/a", b"", {}, known=KnownHead())


def test_permit_is_decided_once_for_known_head() -> None:
    access = Deciding(lambda _: Permit("token:a"))
    hosts: list[Request] = []
    gate = Gate([hosts.append], access)
    request = known()
    assert gate.admit(request, None) is gate.admit(request, None)
    assert (len(access.asked), len(hosts)) == (1, 1)
    gate.admit(known(), None)
    assert (len(access.asked), len(hosts)) == (2, 2)


def test_permit_of_known_head_is_decided_again_when_tokens_change() -> None:
    access = Deciding(lambda _: Permit(generation=access.authenticator.generation))
    gate, request = Gate((), access), known()
    gate.admit(request, None)
    access.authenticator.generation += 1
    for _ in range(2):
        gate.admit(request, None)
    assert len(access.asked) == 2


def test_permit_of_known_head_is_decided_again_when_token_expires() -> None:
    times = iter([99, 100, 100])
    access = Deciding(lambda _: Permit(until=100))
    gate, request = Gate((), access, clock=lambda: next(times)), known()
    for _ in range(3):
        gate.admit(request, None)
    assert len(access.asked) == 2


@pytest.mark.parametrize("ticket", [False, True])
def test_permit_that_depends_on_more_than_head_is_not_kept(ticket: bool) -> None:
    permit = ANYONE if not ticket else Permit("token:a")
    access = Deciding(lambda _: Ticket.of(permit) if ticket else permit)
    gate, request = Gate((), access), known()
    for _ in range(2):
        gate.admit(request, None)
    assert len(access.asked) == 2


def test_limits_are_checked_for_each_request_with_known_head() -> None:
    limits = Counting()
    gate, request = Gate(limits=limits), known()
    for _ in range(2):
        gate.admit(request, None)
    assert len(limits.asked) == 2


def test_preflight_needs_neither_rights_nor_limits_but_a_known_host() -> None:
    """TRAPS 44"""
    limits = Counting()
    access = Deciding(lambda _: pytest.fail("asked about rights"))
    preflight = Request("OPTIONS", b"/v1/stream/a", b"", {})
    assert Gate((), access, limits).admit(preflight, None) is OPEN
    assert limits.asked == []
    with pytest.raises(Forbidden):
        Gate([refuse_host], access, limits).admit(preflight, None)
