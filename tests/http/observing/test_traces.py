"""Tests of the spans that are made for responses."""

from collections.abc import AsyncIterator, Sequence
from typing import cast

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv.attributes import (
    client_attributes,
    error_attributes,
    http_attributes,
    network_attributes,
    server_attributes,
    url_attributes,
    user_agent_attributes,
)
from opentelemetry.trace import SpanKind, StatusCode

from durable_streams_server import StreamStore, create_app
from durable_streams_server.http.asgi.application import DurableStreamsApp
from durable_streams_server.http.observing.observer import Report, Waits
from durable_streams_server.http.observing.routes import APPEND
from durable_streams_server.http.observing.traces import Traces
from durable_streams_server.http.request import Request
from tests.http.asgi_driver import start_live_read
from tests.http.lanes import Caller
from tests.http.observing.reports import PEER
from tests.http.socket_driver import until

A = "/v1/stream/a"
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
TEXT = {"content-type": "text/plain", "user-agent": "curl"}


class Spans:
    """Collects the spans of a provider."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def take(self) -> Sequence[ReadableSpan]:
        found = self._exporter.get_finished_spans()
        self._exporter.clear()
        return found

    def one(self) -> ReadableSpan:
        (span,) = self.take()
        return span


@pytest.fixture
def spans() -> Spans:
    return Spans()


@pytest.fixture
async def app(spans: Spans) -> AsyncIterator[DurableStreamsApp]:
    app = create_app(store=StreamStore())
    app.trace(spans.provider)
    yield app
    await app.stop()


@pytest.fixture(params=["native", "asgi"])
async def call(request: pytest.FixtureRequest, app: DurableStreamsApp, spans: Spans) -> Caller:
    caller = Caller(app, request.param == "native")
    await caller("PUT", A, TEXT)
    spans.take()
    return caller


async def test_span_describes_a_response_by_the_conventions(call: Caller, spans: Spans) -> None:
    headers = {**TEXT, "x-request-id": "mine", "authorization": "Bearer hush"}
    answer = await call("GET", A + "?offset=-1&token=hush", headers)
    assert answer.status == 200
    span = spans.one()
    assert (span.name, span.kind) == ("GET read", SpanKind.SERVER)
    assert span.status.status_code is StatusCode.UNSET
    assert span.parent is None
    attributes = dict(span.attributes or {})
    for name in (server_attributes.SERVER_ADDRESS, server_attributes.SERVER_PORT):
        attributes.pop(name, None)  # the drivers send different hosts
    assert attributes == {
        http_attributes.HTTP_REQUEST_METHOD: "GET",
        http_attributes.HTTP_RESPONSE_STATUS_CODE: 200,
        "http.response.body.size": 0,
        url_attributes.URL_PATH: A,
        url_attributes.URL_QUERY: "offset=-1",
        url_attributes.URL_SCHEME: "http",
        user_agent_attributes.USER_AGENT_ORIGINAL: "curl",
        client_attributes.CLIENT_ADDRESS: "127.0.0.1",
        network_attributes.NETWORK_PEER_ADDRESS: "127.0.0.1",
        "durable_streams.route": "read",
        "durable_streams.request_id": "mine",
    }


async def test_context_of_the_client_becomes_the_parent(call: Caller, spans: Spans) -> None:
    headers = {**TEXT, "traceparent": TRACEPARENT, "tracestate": "vendor=1"}
    for _ in range(3):  # the later requests have known heads
        await call("POST", A, headers, b"x")
        span = spans.one()
        assert span.parent is not None
        assert f"{span.parent.span_id:016x}" == PARENT
        assert span.context is not None
        assert f"{span.context.trace_id:032x}" == TRACE
        assert span.context.trace_state.get("vendor") == "1"


@pytest.mark.parametrize("sent", ["nonsense", TRACEPARENT + "\x80", f"ff-{TRACE}-{PARENT}-01", ""])
async def test_invalid_context_is_ignored(call: Caller, spans: Spans, sent: str) -> None:
    answer = await call("GET", A, {**TEXT, "traceparent": sent})
    assert answer.status == 200
    assert spans.one().parent is None


async def test_client_that_does_not_sample_gets_no_span(call: Caller, spans: Spans) -> None:
    await call("GET", A, {**TEXT, "traceparent": f"00-{TRACE}-{PARENT}-00"})
    assert spans.take() == ()


async def test_unknown_method_is_not_shown(call: Caller, spans: Spans) -> None:
    await call("PROPFIND", A, TEXT)
    span = spans.one()
    assert span.name == "_OTHER other"
    assert (span.attributes or {})[http_attributes.HTTP_REQUEST_METHOD] == "_OTHER"


async def test_only_errors_of_the_server_mark_a_span_as_failed(
    app: DurableStreamsApp, call: Caller, spans: Spans
) -> None:
    await call("GET", A + "/none", TEXT)
    assert spans.one().status.status_code is StatusCode.UNSET
    app.begin_shutdown()
    assert (await call("GET", A, TEXT)).status == 503
    span = spans.one()
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})[error_attributes.ERROR_TYPE] == "503"


@pytest.mark.parametrize(
    ("host", "address", "port"),
    [
        (b"streams.example:8080", "streams.example", 8080),
        (b"streams.example", "streams.example", None),
        (b"[::1]:80", "[::1]", 80),
        (b"[::1]", "[::1]", None),
        (b"", None, None),
        (b"x" * 300, None, None),
    ],
)
def test_span_shows_the_host_of_its_request(
    spans: Spans, host: bytes, address: str | None, port: int | None
) -> None:
    request = Request("GET", b"/a", b"", {b"host": host})
    Traces(spans.provider).finished(Report(request, APPEND, 204, 0.0, 0, None))
    attributes = spans.one().attributes or {}
    assert attributes.get(server_attributes.SERVER_ADDRESS) == address
    assert attributes.get(server_attributes.SERVER_PORT) == port


def test_span_has_the_times_of_its_request(spans: Spans) -> None:
    now = 1_764_320_402_000_000_000
    traces = Traces(spans.provider, lambda: now)
    request = Request("POST", b"/v1/stream/a", b"", {})
    traces.finished(Report(request, APPEND, 204, 1.5, 0, PEER, Waits(body_wait=0.5)))
    traces.finished(Report(request, APPEND, 204, 1.5, 0, None))
    first, second = spans.take()
    assert (first.start_time, first.end_time) == (now - 2_000_000_000, now)
    assert (second.start_time, second.end_time) == (now - 1_500_000_000, now)
    assert client_attributes.CLIENT_ADDRESS not in (second.attributes or {})


async def test_event_stream_is_one_span_from_its_beginning_to_its_end(
    app: DurableStreamsApp, spans: Spans
) -> None:
    await Caller(app, native=False)("PUT", A, TEXT, b"ab")
    spans.take()
    exchange = start_live_read(app, A, "sse", traceparent=TRACEPARENT)
    await until(lambda: len(exchange.sent) > 1)
    assert spans.take() == ()
    exchange.disconnect()
    await exchange.task
    span = spans.one()
    assert span.name == "GET sse"
    assert span.parent is not None
    body = b"".join(message.get("body", b"") for message in exchange.sent)
    assert (span.attributes or {})["http.response.body.size"] == len(body)


def test_only_a_tracer_provider_is_accepted() -> None:
    app = create_app()
    with pytest.raises(TypeError, match="provider"):
        app.trace(cast(TracerProvider, "otlp"))
    assert app.observer.watcher is None


def test_context_that_is_sent_twice_is_ignored(spans: Spans) -> None:
    headers = {b"traceparent": TRACEPARENT.encode()}
    request = Request("GET", b"/a", b"", headers, frozenset({b"traceparent"}))
    Traces(spans.provider).finished(Report(request, APPEND, 200, 0.0, 0, None))
    assert spans.one().parent is None
