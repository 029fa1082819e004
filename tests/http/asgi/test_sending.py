"""Whole responses over ASGI: their framing, the slices of large pages, and clients that leave or are cut."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from durable_streams_server.http.asgi import sending
from durable_streams_server.http.asgi.sending import Taker, send_response
from durable_streams_server.http.limits.outgoing import Outgoing
from durable_streams_server.http.request import Request
from durable_streams_server.protocol.render import Response
from durable_streams_server.protocol.units import MIB
from durable_streams_server.streams.large import Run, SendBudget
from durable_streams_server.streams.turns import Turns
from tests.http.socket_driver import run_turns

BUDGET = 100 * MIB


class Host:
    """A host server that collects the messages of one response.

    Attributes:
        sent: The messages.
        error: If set, `send` raises this error.
        blocks: Whether `send` waits forever for the second message, as for a client that reads nothing.
    """

    def __init__(self) -> None:
        self.sent: list[Mapping[str, Any]] = []
        self.error: Exception | None = None
        self.blocks = False
        self.budget = SendBudget(BUDGET)
        self.turns = Turns()
        self.outgoing = Outgoing(self.budget, self.turns)

    async def send(self, message: Mapping[str, Any]) -> None:
        if self.error is not None:
            raise self.error
        if self.blocks and self.sent:
            await asyncio.Event().wait()
        self.sent.append(message)

    async def respond(self, method: str, response: Response) -> dict[bytes, bytes]:
        """Sends a response to a request and returns its headers."""
        request = Request(method, b"/a", b"", {})
        await send_response(request, response, self.send, self.outgoing, self.turns)
        return dict(self.sent[0]["headers"]) if self.sent else {}

    @property
    def bodies(self) -> list[bytes]:
        """Returns the parts of the body that are not empty."""
        return [message["body"] for message in self.sent[1:] if message["body"]]


@pytest.fixture
async def host() -> Host:
    return Host()


def large_page(host: Host, size: int) -> Response:
    """Returns a response whose body is a `Run` that counts against the budget."""
    run = Run(host.budget, bytes(size))
    return Response(200, [], run.data, holder=run)


@pytest.mark.parametrize(
    ("method", "status", "length", "body"),
    [
        ("GET", 200, b"4", b"text"),
        ("HEAD", 200, None, b""),
        ("POST", 204, None, b""),
        ("GET", 304, None, b""),
    ],
)
async def test_only_a_response_with_a_body_has_a_content_length(
    host: Host, method: str, status: int, length: bytes | None, body: bytes
) -> None:
    response = Response(status, [], b"text" if status == 200 else b"")
    headers = await host.respond(method, response)
    assert headers.get(b"content-length") == length
    assert host.sent[-1] == {"type": "http.response.body", "body": body}


async def test_page_of_up_to_4_mib_is_sent_as_one_object(host: Host) -> None:
    response = large_page(host, 4 * MIB)
    await host.respond("GET", response)
    (body,) = host.bodies
    assert body is response.body
    assert len(host.outgoing) == 0


async def test_larger_page_is_sent_in_slices(host: Host) -> None:
    response = large_page(host, 5 * MIB + 1)
    await host.respond("GET", response)
    assert {len(body) for body in host.bodies} == {sending._SLICE, 1}
    assert b"".join(host.bodies) == response.body
    assert host.sent[-1] == {"type": "http.response.body", "body": b""}
    assert len(host.outgoing) == 0


@pytest.mark.parametrize("size", [4, 5 * MIB])
async def test_response_ends_without_an_error_when_its_client_leaves(host: Host, size: int) -> None:
    host.error = OSError("the client is gone")
    await host.respond("GET", large_page(host, size))
    assert host.sent == []
    assert len(host.outgoing) == 0


async def test_response_ends_without_an_error_when_its_client_is_cut(host: Host) -> None:
    host.blocks = True
    task = asyncio.create_task(host.respond("GET", large_page(host, 5 * MIB)))
    await run_turns()
    (taker,) = host.outgoing._held
    taker.cut()
    await task
    assert len(host.sent) == 1
    assert len(host.outgoing) == 0


async def test_response_raises_cancelled_error_when_the_host_cancels_it(host: Host) -> None:
    host.blocks = True
    task = asyncio.create_task(host.respond("GET", large_page(host, 5 * MIB)))
    await run_turns()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(host.outgoing) == 0


async def test_was_cut_is_false_if_the_host_cancelled_the_task() -> None:
    outcomes = []

    async def run(cut: bool) -> None:
        taker = Taker()
        if cut:
            taker.cut()
        else:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            outcomes.append(taker.was_cut())

    for cut in (True, False):
        await asyncio.create_task(run(cut))
    assert outcomes == [True, False]
