"""`make_gate`: which checks a server has."""

from pathlib import Path

import pytest

from durable_streams_server import AccessControl, Authenticator, create_app
from durable_streams_server.errors import TooManyRequests, Unauthorized, UnknownHost
from durable_streams_server.http.gate.assembly import make_gate
from durable_streams_server.http.gate.permit import OPEN
from durable_streams_server.http.limits.rates import Rates
from durable_streams_server.http.options import HandlerOptions
from durable_streams_server.http.request import Request
from tests.http.gate.tokens import empty_token_file

REQUEST = Request("GET", b"/v1/stream/a", b"", {b"host": b"evil.example"})


def test_open_server_has_no_gate() -> None:
    assert make_gate(HandlerOptions(), create_app().engine) is None


def test_server_with_allowed_hosts_checks_hosts_alone() -> None:
    engine = create_app().engine
    gate = make_gate(
        HandlerOptions(access=AccessControl(allowed_hosts=["streams.example"])), engine
    )
    assert gate is not None
    with pytest.raises(UnknownHost):
        gate.admit(REQUEST, None)
    named = Request("GET", b"/v1/stream/a", b"", {b"host": b"streams.example"})
    assert gate.admit(named, None) is OPEN


@pytest.mark.parametrize("hosts", [None, ()])
def test_server_with_tokens_checks_hosts_only_if_it_has_a_list_of_them(
    hosts: tuple[str, ...] | None, tmp_path: Path
) -> None:
    authenticator = Authenticator(tokens=empty_token_file(tmp_path))
    engine = create_app().engine
    gate = make_gate(HandlerOptions(access=AccessControl(authenticator, "token", hosts)), engine)
    assert gate is not None
    with pytest.raises(Unauthorized if hosts is None else UnknownHost):
        gate.admit(REQUEST, None)


async def test_server_with_rates_checks_rates_alone() -> None:
    gate = make_gate(HandlerOptions(), create_app().engine, Rates(1, 1000))
    assert gate is not None
    append = Request("POST", b"/v1/stream/a", b"", {}, body=b"x")
    with pytest.raises(TooManyRequests):
        all(gate.admit(append, "192.0.2.1") for _ in range(1000))


def test_server_for_local_pages_checks_no_hosts_unless_asked() -> None:
    gate = make_gate(HandlerOptions(cors_origins=("local",)), create_app().engine)
    assert gate is not None
    assert gate.admit(REQUEST, None) is OPEN
    assert gate.local_origins is not None
    assert b"http://localhost:3000" in gate.local_origins
    assert b"https://stranger.example" not in gate.local_origins
