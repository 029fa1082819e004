"""`Handler`: requests become commands, and outcomes become responses."""

import pytest

from durable_streams_server import StreamStore, create_app
from durable_streams_server.errors import Unauthorized
from durable_streams_server.http.asgi.application import DurableStreamsApp
from durable_streams_server.http.gate.gate import Gate
from durable_streams_server.http.gate.permit import OPEN, Permit
from durable_streams_server.http.handler import Handler
from durable_streams_server.http.options import HandlerOptions
from durable_streams_server.http.request import Request
from durable_streams_server.protocol.commands import Command
from durable_streams_server.protocol.decisions.outcomes import Outcome
from durable_streams_server.protocol.render import Response
from durable_streams_server.storage.slow_work import ACCESS, SlowWork
from durable_streams_server.storage.ticket import Ticket
from tests.http.asgi_driver import request
from tests.http.gate.deciding import Deciding

A = "/v1/stream/a"
TEXT = {"content-type": "text/plain"}


@pytest.fixture
async def app() -> DurableStreamsApp:
    return create_app()


async def test_stream_is_created_appended_read_closed_and_deleted(app: DurableStreamsApp) -> None:
    made = await request(app, "PUT", A, {**TEXT, "host": "h.example:81"}, b"hello")
    assert (made.status, made.headers["location"]) == (201, f"http://h.example:81{A}")
    again = await request(app, "PUT", A, TEXT)
    assert (again.status, "location" in again.headers) == (200, False)
    appended = await request(app, "POST", A, TEXT, b" world")
    assert (appended.status, appended.body) == (204, b"")
    head = await request(app, "HEAD", A)
    assert (head.status, head.body) == (200, b"")
    assert head.headers["stream-next-offset"] == appended.headers["stream-next-offset"]
    page = await request(app, "GET", f"{A}?offset={made.headers['stream-next-offset']}")
    assert (page.body, page.headers["stream-up-to-date"]) == (b" world", "true")
    closed = await request(app, "POST", A, {"stream-closed": "TRUE"})
    assert closed.headers["stream-closed"] == "true"
    assert (await request(app, "DELETE", A)).status == 204
    assert (await request(app, "GET", A)).status == 404


async def test_public_stream_says_so_in_each_response_about_it(app: DurableStreamsApp) -> None:
    declared = {**TEXT, "stream-public": "true"}
    for status in (201, 200):
        made = await request(app, "PUT", A, declared, b"x")
        assert (made.status, made.headers["stream-public"]) == (status, "true")
    for method, url in (("HEAD", A), ("GET", A), ("GET", f"{A}?offset=now")):
        assert (await request(app, method, url)).headers["stream-public"] == "true"
    refused = await request(app, "PUT", A, TEXT)
    assert (refused.status, refused.error["code"]) == (409, "STREAM_EXISTS")
    fork = await request(app, "PUT", "/v1/stream/b", {"stream-forked-from": A})
    assert (fork.status, "stream-public" in fork.headers) == (201, False)


async def test_etag_of_an_open_stream_does_not_match_after_it_is_closed(
    app: DurableStreamsApp,
) -> None:  # TRAPS 23
    await request(app, "PUT", A, TEXT, b"x")
    tag = (await request(app, "GET", A)).headers["etag"]
    assert (await request(app, "GET", A, {"if-none-match": tag})).status == 304
    await request(app, "POST", A, {"stream-closed": "true"})
    ended = await request(app, "GET", A, {"if-none-match": tag})
    assert (ended.status, ended.headers["stream-closed"]) == (200, "true")


async def test_request_waits_for_gate_and_keeps_its_body(app: DurableStreamsApp) -> None:
    """The lanes drop the body of a request when `handle` returns, so a request that waits for the gate keeps its own."""
    permit: Ticket[Permit] = Ticket()
    handler = Handler(
        app.engine, app.service, HandlerOptions(), Gate(access=Deciding(lambda _: permit))
    )
    headers = {b"content-type": b"text/plain"}
    put = Request("PUT", A.encode(), b"", headers, body=b"hello")
    reply = handler.handle(put, lambda: None)
    put.body = b""
    assert isinstance(reply, Ticket)
    assert not reply.done
    permit.resolve(OPEN)
    made = reply.result()
    assert isinstance(made, Response)
    assert made.status == 201
    assert (await request(app, "GET", A)).body == b"hello"


async def test_refusal_of_gate_is_sent_and_preflight_passes(app: DurableStreamsApp) -> None:
    """TRAPS 44"""

    def refuse(_: Request) -> Permit:
        raise Unauthorized("a token is needed here")

    handler = Handler(app.engine, app.service, HandlerOptions(), Gate(access=Deciding(refuse)))
    refused = handler.handle(Request("GET", A.encode(), b"", {}), lambda: None)
    preflight = handler.handle(Request("OPTIONS", A.encode(), b"", {}), lambda: None)
    assert isinstance(refused, Response)
    assert isinstance(preflight, Response)
    assert (refused.status, preflight.status) == (401, 204)


class Broken(StreamStore):
    """A store that fails with a secret in its error."""

    def execute(self, command: Command, now: int) -> Ticket[Outcome]:
        raise RuntimeError("the password is hunter2")


async def test_internal_error_leaks_nothing(caplog: pytest.LogCaptureFixture) -> None:  # TRAPS 46
    answer = await request(create_app(store=Broken()), "PUT", A, TEXT)
    assert (answer.status, answer.error) == (
        500,
        {"code": "INTERNAL_ERROR", "message": "the server failed"},
    )
    assert answer.headers["cache-control"] == "no-store"
    assert "hunter2" in caplog.text


async def test_producer_gets_sequence_numbers_after_a_duplicate_or_gap(
    app: DurableStreamsApp,
) -> None:
    await request(app, "PUT", A, TEXT)
    stamp = {**TEXT, "producer-id": "p", "producer-epoch": "0", "producer-seq": "0"}
    first = await request(app, "POST", A, stamp, b"x")
    again = await request(app, "POST", A, stamp, b"x")
    assert (first.status, again.status) == (200, 204)
    assert again.headers["producer-seq"] == "0"
    gap = await request(app, "POST", A, {**stamp, "producer-seq": "5"}, b"x")
    assert (gap.headers["producer-expected-seq"], gap.headers["producer-received-seq"]) == (
        "1",
        "5",
    )


async def test_expected_offset_is_checked_after_deduplication(app: DurableStreamsApp) -> None:
    tail = (await request(app, "PUT", A, TEXT)).headers["stream-next-offset"]
    stamp = {"producer-id": "p", "producer-epoch": "0", "producer-seq": "0"}
    expecting = {**TEXT, "stream-expected-offset": tail}
    first = await request(app, "POST", A, {**expecting, **stamp}, b"x")
    assert first.status == 200
    assert (await request(app, "POST", A, {**expecting, **stamp}, b"x")).status == 204
    refused = await request(app, "POST", A, expecting, b"y")
    assert refused.status == 409
    assert refused.headers["stream-next-offset"] == first.headers["stream-next-offset"]
    expecting["stream-expected-offset"] = first.headers["stream-next-offset"]
    assert (await request(app, "POST", A, expecting, b"y")).status == 204


async def test_wait_for_a_permit_counts_as_slow_work_and_names_the_subject() -> None:
    store = StreamStore()
    store.create("/v1/stream/a", "text/plain")
    app = create_app(store=store)
    app.begin()
    now = 100.0
    work = SlowWork(lambda: now)
    store.slow_work = work
    permit: Ticket[Permit] = Ticket()
    app.handler.gate = Gate(access=Deciding(lambda _: permit))
    request = Request("GET", b"/v1/stream/a", b"", {}, id=b"mine")
    reply = app.handler.handle(request, lambda: None)
    assert isinstance(reply, Ticket)
    now += 2
    permit.resolve(Permit("ann"))
    shown = reply.result()
    assert isinstance(shown, Response)
    assert shown.status == 200
    assert work.between(0, 1000) == {ACCESS: 2.0}
    assert request.subject == "ann"
    await app.stop()
