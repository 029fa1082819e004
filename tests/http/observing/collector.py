"""A collector of OpenTelemetry traces on loopback."""

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans


class Collector:
    """What a collector has received.

    Attributes:
        url: The URL of the collector, for `OTEL_EXPORTER_OTLP_ENDPOINT`.
        paths: The path of each request.
        resources: The spans, by resource.
        answers: Cleared to let the collector answer no request.
    """

    def __init__(self) -> None:
        self.url = ""
        self.paths: list[str] = []
        self.resources: list[ResourceSpans] = []
        self.answers = threading.Event()
        self.answers.set()

    @property
    def names(self) -> list[str]:
        """Returns the names of all spans that the collector has received."""
        return [
            span.name
            for resource in self.resources
            for scope in resource.scope_spans
            for span in scope.spans
        ]


@contextlib.contextmanager
def collecting() -> Iterator[Collector]:
    """Runs a collector for the block."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            collector.paths.append(self.path)
            collector.answers.wait(20)
            collector.resources.extend(ExportTraceServiceRequest.FromString(body).resource_spans)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Prints nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield collector
        finally:
            collector.answers.set()
            server.shutdown()
            thread.join()
