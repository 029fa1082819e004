"""The type of OpenTelemetry's tracer providers, for code that must not import OpenTelemetry."""

from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class TracerProvider(Protocol):
    """Makes tracers, as `opentelemetry.trace.TracerProvider` does."""

    def get_tracer(self, instrumenting_module_name: str, /) -> Any:
        """Returns the tracer of a library."""
        ...
