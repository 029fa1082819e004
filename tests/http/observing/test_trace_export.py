"""Tests that spans reach a collector, and that a collector that does not answer holds nothing up."""

import time

import pytest
from opentelemetry import propagate

from durable_streams_server.http.observing.trace_export import exporting_provider, stop_exporting
from tests.http.observing.collector import collecting

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
#: A valid traceparent.
PARENT = f"00-{1:032x}-{1:016x}-01"


def attributes(resource: object) -> dict[str, str]:
    pairs = resource.resource.attributes  # type: ignore[attr-defined]  # a generated class without types
    return {pair.key: pair.value.string_value for pair in pairs}


def test_spans_are_sent_to_the_collector_when_the_server_stops(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with collecting() as collector:
        monkeypatch.setenv(ENDPOINT, collector.url)
        provider = exporting_provider()
        provider.get_tracer("test").start_span("hello").end()
        assert stop_exporting(provider)
    assert collector.paths == ["/v1/traces"]
    assert collector.names == ["hello"]
    (resource,) = collector.resources
    assert attributes(resource)["service.name"] == "durable-streams-server"
    assert attributes(resource)["service.version"]


def test_name_of_the_service_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
    provider = exporting_provider()
    assert provider.resource.attributes["service.name"] == "mine"
    assert stop_exporting(provider)


def test_collector_that_does_not_answer_delays_a_stop_only_for_a_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with collecting() as collector:
        monkeypatch.setenv(ENDPOINT, collector.url)
        provider = exporting_provider()
        collector.answers.clear()
        provider.get_tracer("test").start_span("late").end()
        begun = time.monotonic()
        assert not stop_exporting(provider, 0.1)
        assert time.monotonic() - begun < 5


@pytest.mark.parametrize(
    "headers",
    [
        {"traceparent": "a" * 600},
        {"traceparent": PARENT, "tracestate": "=,a=b,a=c,\xff=1"},
    ],
)
def test_invalid_headers_of_clients_are_not_logged(
    headers: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    provider = exporting_provider()
    propagate.extract(headers)
    assert caplog.records == []
    assert stop_exporting(provider)
