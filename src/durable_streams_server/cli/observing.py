"""Turns on the access log, the log of slow operations, and traces, as far as the settings ask for them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from ..http.asgi.application import DurableStreamsApp
from ..http.observing.access_log import AccessLog
from ..http.observing.observer import Watcher
from ..http.observing.slow_log import SlowLog
from ..http.observing.watchers import watch
from ..log import log as _log
from .settings.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider


def provider_of(settings: Settings) -> TracerProvider | None:
    """Returns the provider that sends traces, or None if the settings ask for none. Imports OpenTelemetry only if necessary.

    Raises:
        click.UsageError: OpenTelemetry is not installed, or its variables have values that it refuses.
    """
    if not settings.traces:
        return None
    try:
        from ..http.observing.trace_export import exporting_provider
    except ImportError as error:
        raise click.UsageError(
            f"traces need OpenTelemetry ({error.name} is missing): pip install 'durable-streams-server[otel]'"
        ) from None
    try:
        return exporting_provider()
    except ValueError as error:
        raise click.UsageError(f"OpenTelemetry cannot start: {error}") from None


@contextlib.contextmanager
def observing(
    app: DurableStreamsApp, settings: Settings, provider: TracerProvider | None
) -> Iterator[None]:
    """Watches the responses of an application as the settings say. Sends the last traces at the end of the block.

    Args:
        app: The application, whose store is open.
        settings: The settings.
        provider: The provider from `provider_of`.
    """
    watchers: list[Watcher] = []
    if settings.access_log:
        watchers.append(AccessLog())
    if settings.slow_log:
        app.engine.store.slow_work.log_above(settings.slow_log)
        watchers.append(
            SlowLog(settings.slow_log, lambda: app.engine.store.slow_work, time.monotonic)
        )
    if provider is not None:
        from ..http.observing.traces import Traces

        watchers.append(Traces(provider))
    watch(app.observer, watchers, names_requests=settings.access_log)
    try:
        yield
    finally:
        if provider is not None:
            from ..http.observing.trace_export import stop_exporting

            if not stop_exporting(provider):
                _log.warning(
                    "the last traces are lost, because the collector did not accept them in time"
                )
