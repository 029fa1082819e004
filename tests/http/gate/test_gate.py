"""`Gate`: the checks that every request passes before it reaches a route."""

import pytest

from durable_streams_server.errors import Forbidden, TooManyRequests, Unauthorized
from durable_streams_server.http.gate.gate import Gate
from durable_streams_server.http.gate.permit import OPEN, Permit
from durable_streams_server.http.request import Request
from durable_streams_server.storage.ticket import Ticket

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
    gate = Gate(refuse_host, lambda _: pytest.fail("asked about rights"), limits)
    with pytest.raises(Forbidden):
        gate.admit(REQUEST, None)
    assert limits.asked == []


def test_limits_count_under_client_of_permit() -> None:
    limits = Counting()
    permit = Permit("token:a", is_private=True)
    assert Gate(None, lambda _: permit, limits).admit(REQUEST, "192.0.2.1") is permit
    assert limits.asked == [("token:a", "192.0.2.1")]
    with pytest.raises(TooManyRequests):
        Gate(None, lambda _: Permit("greedy"), limits).admit(REQUEST, None)


def test_limits_are_checked_after_permit_that_waits() -> None:
    limits = Counting()
    waiting: Ticket[Permit] = Ticket()
    admitted = Gate(None, lambda _: waiting, limits).admit(REQUEST, "192.0.2.1")
    assert isinstance(admitted, Ticket)
    assert (admitted.done, limits.asked) == (False, [])
    waiting.resolve(Permit("token:a"))
    assert admitted.result() == Permit("token:a")
    assert limits.asked == [("token:a", "192.0.2.1")]


def test_limits_are_not_checked_after_permit_fails() -> None:
    limits = Counting()
    failed: Ticket[Permit] = Ticket.failed(Unauthorized("no token"))
    admitted = Gate(None, lambda _: failed, limits).admit(REQUEST, None)
    assert isinstance(admitted, Ticket)
    with pytest.raises(Unauthorized):
        admitted.result()
    assert limits.asked == []


def test_head_is_checked_like_whole_request() -> None:
    limits = Counting()
    with pytest.raises(Forbidden):
        Gate(refuse_host, None, limits).check_head(REQUEST, None)
    Gate(None, lambda _: Permit("token:a"), limits).check_head(REQUEST, "192.0.2.1")
    Gate(None, lambda _: Ticket.of(Permit("token:b")), limits).check_head(REQUEST, None)
    assert limits.asked == [("token:a", "192.0.2.1"), ("token:b", None)]
    with pytest.raises(TooManyRequests):
        Gate(None, lambda _: Permit("greedy"), limits).check_head(REQUEST, None)
    with pytest.raises(Unauthorized):
        Gate(None, lambda _: Ticket.failed(Unauthorized("no token"))).check_head(REQUEST, None)


def test_head_passes_while_permit_waits() -> None:
    limits = Counting()
    Gate(None, lambda _: Ticket(), limits).check_head(REQUEST, None)
    Gate().check_head(REQUEST, None)
    assert limits.asked == []
