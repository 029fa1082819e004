"""Every spelling of the numbers and names that frame a request is either read correctly or refused with a 4xx."""

import logging
from collections.abc import Iterator

import pytest

from durable_streams_server import StreamStore, create_app
from durable_streams_server.http.limits.timeouts import Timeouts
from durable_streams_server.http.native.lane import Lane
from tests.http.asgi.http1_client import AsgiClient
from tests.http.asgi_driver import Answer, Exchange
from tests.http.framing import (
    BODY,
    CODINGS_REFUSED,
    FRAMED,
    LENGTHS_REFUSED,
    LENGTHS_TAKEN,
    MAX_BODY,
)
from tests.http.socket_driver import Client, parse, run_turns, run_until_idle, until

A = "/v1/stream/a"
HOST = (b"host", b"h")
TEXT = [(b"content-type", b"text/plain")]


@pytest.fixture(autouse=True)
def no_fault_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    assert [each.getMessage() for each in caplog.records if each.levelno >= logging.ERROR] == []


@pytest.fixture
async def store() -> StreamStore:
    store = StreamStore()
    store.create(A, "text/plain")
    return store


def assert_right(answer: Answer, taken: bool | None, store: StreamStore) -> None:
    """Asserts that a request was stored whole if `taken`, and otherwise was refused with a code and left no trace."""
    if taken is None:
        taken = answer.status == 204
    if taken:
        assert answer.status == 204
    else:
        assert 400 <= answer.status < 500
        assert answer.error["code"]
    assert store.read(A).data == (BODY if taken else b"")


@pytest.mark.parametrize("each", [0, 1])
@pytest.mark.parametrize("name", FRAMED)
async def test_native_server_parses_framing_correctly_or_refuses_the_request(
    name: str, each: int, store: StreamStore
) -> None:
    framed = FRAMED[name]
    if each and len(framed.octets) > 10_000:
        each = 997
    lane = Lane(create_app(store=store, max_body=MAX_BODY), Timeouts(head=1, body=1))
    client = Client(lane).send(framed.octets, each)
    await run_until_idle(lane)
    if not client.wire.received:  # the request announces more octets than it has
        lane.now += 1
        client.connection.check(lane.now)
    found, _ = parse(client.read(), ["POST"])
    assert_right(found[0], framed.taken, store)
    assert client.is_ended is (found[0].status != 204 or b"HTTP/1.0" in framed.octets)
    client.reset()
    await run_turns()
    assert lane.budget.held == 0


@pytest.mark.parametrize("name", FRAMED)
async def test_asgi_server_parses_framing_correctly_or_refuses_the_request(
    name: str, store: StreamStore
) -> None:
    framed = FRAMED[name]
    app = create_app(store=store, max_body=MAX_BODY, body_timeout=0.05)
    client = AsgiClient(Timeouts(head=0.05), app=app)
    client.wire.give(framed.octets)
    await until(lambda: bool(parse(bytes(client.wire.received), ["POST"])[0]))
    found, _ = parse(bytes(client.wire.received), ["POST"])
    assert_right(found[0], framed.taken, store)
    if not client.wire.lost:
        client.wire.lose()
    await until(lambda: not client.state.tasks)
    assert app.budget.held == 0


async def hosted(store: StreamStore, *headers: tuple[bytes, bytes], version: str = "1.1") -> Answer:
    """Returns the response of the application to a host server that passes every header on unchecked."""
    app = create_app(store=store, max_body=MAX_BODY)
    exchange = Exchange(app, "POST", A.encode(), [HOST, *TEXT, *headers], http_version=version)
    exchange.feed(BODY)
    answer = await exchange.answer()
    assert app.budget.held == 0
    return answer


@pytest.mark.parametrize("name", [*LENGTHS_TAKEN, *LENGTHS_REFUSED])
async def test_application_checks_content_length_passed_by_host_server(
    name: str, store: StreamStore
) -> None:
    taken = name in LENGTHS_TAKEN
    value = LENGTHS_TAKEN[name] if taken else LENGTHS_REFUSED[name]
    assert_right(await hosted(store, (b"content-length", value)), taken, store)


@pytest.mark.parametrize("name", CODINGS_REFUSED)
async def test_application_refuses_unknown_coding_passed_by_host_server(
    name: str, store: StreamStore
) -> None:
    answer = await hosted(store, (b"transfer-encoding", CODINGS_REFUSED[name]))
    assert_right(answer, False, store)


async def test_application_refuses_two_framings_passed_by_host_server(store: StreamStore) -> None:
    length, coding = (b"content-length", b"5"), (b"transfer-encoding", b"chunked")
    for headers in ([length, length], [length, coding], [coding, length], [coding, coding]):
        assert_right(await hosted(store, *headers), False, store)
    assert_right(await hosted(store, coding, version="1.0"), False, store)
    for version in ("0.9", "2.0"):
        assert_right(await hosted(store, length, version=version), False, store)
    assert_right(await hosted(store, coding), True, store)
