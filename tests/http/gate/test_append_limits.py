"""`AppendLimits`: which requests count against the limits of their clients."""

import pytest

from durable_streams_server.errors import NotFound, TooLarge, TooManyRequests
from durable_streams_server.http.gate.append_limits import AppendLimits
from durable_streams_server.http.gate.permit import OPEN, Permit
from durable_streams_server.http.limits.rates import Rates
from durable_streams_server.http.request import KnownHead, Request
from durable_streams_server.http.targets import Targets
from durable_streams_server.protocol.permissions import TokenLimits
from tests.requests import append

A = b"/v1/stream/a"


def gate_with(appends: int | None = 1, octets: int | None = None) -> AppendLimits:
    return AppendLimits(Rates(appends, octets, lambda: 0), Targets("/v1/stream").find)


def passes(gate: AppendLimits, request: Request, permit: Permit = OPEN, peer: str = "x") -> bool:
    try:
        assert gate.check(request, permit, peer) is permit
    except TooManyRequests:
        return False
    return True


@pytest.mark.parametrize(
    ("method", "path", "counts"),
    [
        ("POST", A, True),
        ("PUT", A, True),
        ("POST", b"/v1/stream/a/__ds/b", True),
        ("GET", A, False),
        ("HEAD", A, False),
        ("DELETE", A, False),
        ("POST", b"/v1/stream/__ds/subscriptions/s/ack", False),
        ("PUT", b"/v1/stream/%5F%5Fds/subscriptions/s", False),
    ],
)
async def test_appends_and_creates_of_streams_count(method: str, path: bytes, counts: bool) -> None:
    gate, request = gate_with(), Request(method, path, b"", {})
    assert [passes(gate, request) for _ in range(6)] == [True] * 5 + [not counts]


async def test_append_with_a_known_head_counts_without_a_look_at_its_path() -> None:
    gate = AppendLimits(Rates(1, None, lambda: 0), lambda *_: pytest.fail("looked"))
    request = Request("POST", A, b"", {}, known=KnownHead(append("/a", b"x")))
    assert [passes(gate, request) for _ in range(6)] == [True] * 5 + [False]


async def test_clients_are_counted_by_token_or_address() -> None:
    gate = gate_with(octets=1)
    request = Request("POST", A, b"", {}, body=b"12345")
    assert passes(gate, request, OPEN, "192.0.2.1")
    assert not passes(gate, request, OPEN, "192.0.2.1")
    assert passes(gate, request, OPEN, "192.0.2.2")
    assert passes(gate, request, Permit("token:a"), "192.0.2.1")
    assert not passes(gate, request, Permit("token:a"), "192.0.2.3")
    forwarded = Request("POST", A, b"", {}, body=b"12345", client="203.0.113.9")
    assert passes(gate, forwarded, OPEN, "192.0.2.1")
    assert not passes(gate, forwarded, OPEN, "192.0.2.9")


def limited(**limits: int) -> Permit:
    """Returns the permit of a token with limits of its own."""
    return Permit("token:a", limits=TokenLimits(**limits))


async def test_limits_of_a_token_replace_those_of_the_server() -> None:
    gate = gate_with()
    request = Request("POST", A, b"", {}, body=b"12345")
    assert [passes(gate, request, limited(appends_per_second=2)) for _ in range(11)] == (
        [True] * 10 + [False]
    )
    gate = gate_with(None, None)
    assert [passes(gate, request, limited(bytes_per_second=2)) for _ in range(3)] == (
        [True, True, False]
    )
    with pytest.raises(TooManyRequests):
        gate.check_head(Request("POST", A, b"", {}, declared=10), limited(bytes_per_second=2), "x")
    assert [passes(gate, request, Permit("token:b")) for _ in range(99)] == [True] * 99


async def test_body_above_the_limit_of_its_token_is_refused() -> None:
    gate, permit = gate_with(None), limited(body_bytes=5)
    gate.check(Request("POST", A, b"", {}, body=b"12345"), permit, "x")
    gate.check_head(Request("PUT", A, b"", {}, declared=5), permit, "x")
    with pytest.raises(TooLarge, match="larger than 5 bytes"):
        gate.check(Request("PUT", A, b"", {}, body=b"123456"), permit, "x")
    with pytest.raises(TooLarge, match="larger than 5 bytes"):
        gate.check_head(Request("POST", A, b"", {}, declared=6), permit, "x")


async def test_client_on_a_unix_socket_has_no_limit() -> None:
    gate, request = gate_with(), Request("POST", A, b"", {})
    for _ in range(9):
        gate.check(request, OPEN, None)
        gate.check_head(request, OPEN, None)


async def test_head_is_refused_by_its_declared_size() -> None:
    gate = gate_with(None, 100)
    gate.check(Request("POST", A, b"", {}, body=bytes(400)), OPEN, "x")
    gate.check_head(Request("POST", A, b"", {}, declared=100), OPEN, "x")
    gate.check_head(Request("GET", A, b"", {}, declared=101), OPEN, "x")
    gate.check_head(Request("POST", A, b"", {}), OPEN, "x")  # a chunked body
    with pytest.raises(TooManyRequests):
        gate.check_head(Request("POST", A, b"", {}, declared=101), OPEN, "x")


async def test_path_of_no_stream_is_refused_as_by_the_routes() -> None:
    for check in (gate_with().check, gate_with().check_head):
        with pytest.raises(NotFound):
            check(Request("POST", b"/v1/stream/__ds", b"", {}), OPEN, "x")
