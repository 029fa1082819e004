"""Sends the spans of a server to a collector, with OTLP over HTTP. Imported only for `--traces`, because it imports the SDK of OpenTelemetry.

The SDK reads its settings from the environment, such as `OTEL_EXPORTER_OTLP_ENDPOINT` and `OTEL_TRACES_SAMPLER`. It sends spans in batches
from a thread of its own. Its queue is bounded, and further spans are dropped.
"""

from __future__ import annotations

import threading
from importlib.metadata import version
from typing import Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from ...log import errors_only

_NAME: Final = "durable-streams-server"
#: Seconds that a stop waits until the last spans are sent.
_PATIENCE: Final = 2.0
#: Loggers of OpenTelemetry that warn about invalid headers of each request. A client could fill the log with their records.
_ABOUT_HEADERS: Final = (
    "opentelemetry.trace.span",
    "opentelemetry.trace.propagation.tracecontext",
)


def exporting_provider() -> TracerProvider:
    """Returns a new provider whose spans are sent to the collector that the environment names. Silences warnings about the headers of clients."""
    for name in _ABOUT_HEADERS:
        errors_only(name)
    resource = Resource.create({"service.version": version(_NAME)})
    if str(resource.attributes.get("service.name", "")).startswith("unknown_service"):
        resource = resource.merge(Resource({"service.name": _NAME}))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


def stop_exporting(provider: TracerProvider, patience: float = _PATIENCE) -> bool:
    """Sends the last spans. Returns whether they were sent in time. A collector that does not answer cannot hold the process up."""
    stopping = threading.Thread(
        target=provider.shutdown, name="durable-streams-traces", daemon=True
    )
    stopping.start()
    stopping.join(patience)
    return not stopping.is_alive()
