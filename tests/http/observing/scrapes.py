"""Scrapes an application, and reads the text as Prometheus does."""

from collections.abc import Iterable

from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as plain_text

from durable_streams_server.http.asgi.application import DurableStreamsApp
from tests.http import asgi_driver

OPEN_METRICS = "application/openmetrics-text; version=1.0.0"
#: What Prometheus 2 sends.
ACCEPT = f"{OPEN_METRICS},application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def parse(text: str, accept: str = "") -> Iterable[Metric]:
    """Returns the metrics of a text in the format that a scraper with this Accept header gets."""
    if "openmetrics" in accept:
        found: Iterable[Metric] = open_metrics(text)  # type: ignore[no-untyped-call]  # the parser has no types
        return found
    return plain_text(text)


async def scrape(app: DurableStreamsApp, accept: str = "") -> list[Metric]:
    """Returns all metrics of an application."""
    headers = {"accept": accept} if accept else {}
    answer = await asgi_driver.request(app, "GET", "/metrics", headers)
    assert answer.status == 200
    return list(parse(answer.body.decode(), accept))


async def series(app: DurableStreamsApp) -> Series:
    """Returns the value of every series of an application, by its name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for metric in await scrape(app)
        for sample in metric.samples
    }


def value(found: Series, name: str, **labels: str) -> float:
    """Returns the value of one series of this server."""
    return found[f"durable_streams_{name}", frozenset(labels.items())]
