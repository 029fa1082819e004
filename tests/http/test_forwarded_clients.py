"""Clients behind trusted proxies are counted by the addresses that the proxies name, in every lane."""

from collections.abc import Awaitable, Callable
from typing import Any

import h2.events
import pytest

from durable_streams_server import ClientLimits, DurableStreamsApp, StreamStore, create_app
from durable_streams_server.http.limits.admission import Admission
from durable_streams_server.http.limits.timeouts import Timeouts
from durable_streams_server.http.native.lane import Lane
from durable_streams_server.http.proxies import TrustedProxies
from tests.http.asgi.http1_client import AsgiClient
from tests.http.asgi.http2_clients import WireClient
from tests.http.asgi_driver import Answer
from tests.http.socket_driver import Client, post, request, run_turns, until

A = "/v1/stream/a"
PROXY, CLIENT, OTHER = "10.0.0.1", "203.0.113.9", "203.0.113.10"


def app_with(rate: int | None = None, **settings: Any) -> DurableStreamsApp:
    """Returns an application with a rate of appends, and with an empty stream at `A`."""
    store = StreamStore()
    store.create(A, "text/plain")
    limits = ClientLimits(max_appends_per_second=rate)
    return create_app(store=store, limits=limits, **settings)


def admission(*proxies: str) -> Admission:
    """Returns an admission with a limit of one connection per address."""
    return Admission(True, 100, limit=1024, per_address=1, proxies=TrustedProxies(proxies))


Ask = Callable[..., Awaitable[Answer]]


@pytest.fixture(params=["native", "asgi", "http2"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Returns a function that sends a POST from a peer to an application with these proxies, and returns the response."""

    async def send(
        app: DurableStreamsApp, to: Admission, peer: str, *headers: tuple[str, str]
    ) -> Answer:
        if request.param == "http2":
            client = WireClient(Timeouts(), to, app, peer)
            lines = [("content-type", "text/plain"), *headers]
            client.ask(A, *lines, method="POST", body=b"x")
            head = await client.saw(h2.events.ResponseReceived)
            status = int(dict(head.headers)[b":status"])
            client.server.transport.abort()
            await run_turns()
            return Answer(status, [], b"")
        wanted = post(b"x", *(f"{name}: {value}" for name, value in headers))
        if request.param == "native":
            native = Client(lane_of(app, to), (peer, 1)).send(wanted)
            (answer,) = native.answers("POST")
            native.reset()
            await run_turns()
            return answer
        asgi = AsgiClient(Timeouts(), app=app, admission=to, peer=(peer, 1))
        asgi.wire.give(wanted)
        (answer,) = await asgi.answers("POST")
        asgi.wire.lose()
        await run_turns()
        return answer

    return send


def lane_of(app: DurableStreamsApp, to: Admission) -> Lane:
    return Lane(app, Timeouts(), to)


def forwarded_for(*addresses: str) -> tuple[str, str]:
    return "x-forwarded-for", ", ".join(addresses)


async def test_clients_behind_a_trusted_proxy_are_counted_one_by_one(ask: Ask) -> None:
    app, to = app_with(1), admission(PROXY)
    for address in (CLIENT, OTHER):
        found = [await ask(app, to, PROXY, forwarded_for(address)) for _ in range(6)]
        assert [answer.status for answer in found] == [204] * 5 + [429]
    spoofed = await ask(app, to, PROXY, forwarded_for("192.0.2.77", CLIENT))
    assert spoofed.status == 429
    named = await ask(app, to, PROXY, ("forwarded", f"for={CLIENT}"))
    assert named.status == 429
    assert (await ask(app, to, CLIENT)).status == 429  # the same client without the proxy
    assert (await ask(app, to, PROXY)).status == 204  # a request of the proxy itself


@pytest.mark.parametrize("listed", [(), ("10.0.0.2",)])
async def test_client_that_is_no_trusted_proxy_cannot_choose_its_address(
    ask: Ask, listed: tuple[str, ...]
) -> None:
    app, to = app_with(1), admission(*listed)
    for number in range(5):
        header = forwarded_for(f"192.0.2.{number}")
        assert (await ask(app, to, CLIENT, header)).status == 204
    for header in (forwarded_for("192.0.2.9"), ("forwarded", "for=192.0.2.9")):
        assert (await ask(app, to, CLIENT, header)).status == 429


async def test_peers_on_this_machine_name_no_address_without_a_list(ask: Ask) -> None:
    app, to = app_with(1), admission()
    for number in range(6):
        answer = await ask(app, to, "127.0.0.1", forwarded_for(f"192.0.2.{number}"))
        assert answer.status == (204 if number < 5 else 429)


async def test_clients_of_one_ipv6_network_are_counted_together(ask: Ask) -> None:
    app, to = app_with(1), admission(PROXY)
    for number in range(6):
        answer = await ask(app, to, PROXY, forwarded_for(f"2001:db8:1:2::{number + 1}"))
        assert answer.status == (204 if number < 5 else 429)


@pytest.mark.parametrize("kind", ["native", "http1", "http2"])
async def test_connections_of_a_trusted_proxy_are_not_counted_by_address(kind: str) -> None:
    app, to = app_with(), admission(PROXY)
    lane = lane_of(app, to)

    def connect(peer: str) -> Any:
        if kind == "native":
            return Client(lane, (peer, 1)).wire
        if kind == "http1":
            return AsgiClient(Timeouts(), app=app, admission=to, peer=(peer, 1)).wire
        client = WireClient(Timeouts(), to, app, peer)
        client.ask(A)
        return client.wire

    wires = [connect(peer) for peer in (PROXY, PROXY, PROXY, CLIENT)]
    await run_turns()
    assert not any(wire.lost for wire in wires)
    assert to._shares.held(CLIENT) == 1
    assert len(to._shares) == 1
    refused = connect(CLIENT)
    await run_turns()
    assert to._shares.held(CLIENT) == 1
    for wire in (*wires, refused):
        wire.lose()
    await run_turns()
    await until(lambda: len(to._shares) == 0)


@pytest.mark.parametrize("lane", ["native", "asgi"])
async def test_large_body_behind_a_proxy_counts_against_the_share_of_its_client(lane: str) -> None:
    app = app_with(max_body=100_000, max_in_flight=200_000)
    to = admission(PROXY)
    native = lane_of(app, to)
    head = request(
        "POST",
        A,
        "Content-Type: text/plain",
        "Transfer-Encoding: chunked",
        f"X-Forwarded-For: {CLIENT}",
    )
    chunk = b"8000\r\n" + bytes(0x8000) + b"\r\n"

    def connect() -> Any:
        if lane == "native":
            return Client(native, (PROXY, 1)).wire
        return AsgiClient(Timeouts(), app=app, admission=to, peer=(PROXY, 1)).wire

    first, second = connect(), connect()
    for part in (head, chunk, chunk, chunk):
        first.give(part)
        await run_turns()
    await until(lambda: app.budget._shares.held(CLIENT) == 3 * 0x8000)
    for part in (head, chunk, chunk, chunk):
        second.give(part)
        await run_turns()
    await until(lambda: b"BODIES_FROM_ADDRESS" in second.received)
    for wire in (first, second):
        wire.lose()
    await until(lambda: app.budget.sharing == app.budget.held == 0)
