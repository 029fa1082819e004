"""`Exposition` writes text that the parsers of Prometheus accept."""

import pytest

from durable_streams_server.http.observing import families as f
from durable_streams_server.http.observing.exposition import Exposition
from durable_streams_server.http.observing.snapshot import Snapshot
from durable_streams_server.storage.distribution import Distribution
from tests.http.observing.scrapes import ACCEPT, parse


def example() -> Snapshot:
    snapshot = Snapshot()
    snapshot.add(f.REQUESTS, 3, "append", "204")
    snapshot.add(f.LIVE_READERS, 2, "sse")
    seen = Distribution((0.5, 2))
    for value in (0.1, 0.5, 1, 5):
        seen.add(value)
    snapshot.add_distribution(f.SYNC_SECONDS, seen)
    return snapshot


@pytest.mark.parametrize("accept", ["", "text/plain", "*/*", ACCEPT])
def test_text_has_the_values_of_the_snapshot(accept: str) -> None:
    body, content_type = Exposition().render(example(), accept)
    assert ("openmetrics" in content_type) == ("openmetrics" in accept)
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for metric in parse(body.decode(), accept)
        for sample in metric.samples
    }
    assert samples["durable_streams_requests_total", "append", "204"] == 3
    assert samples["durable_streams_live_readers", "sse"] == 2
    name = "durable_streams_sync_seconds"
    assert samples[f"{name}_bucket", "0.5"] == 2
    assert samples[f"{name}_bucket", "2.0"] == 3
    assert samples[f"{name}_bucket", "+Inf"] == samples[f"{name}_count",] == 4
    assert samples[f"{name}_sum",] == 6.6


def test_text_has_the_process_the_garbage_collector_and_the_version() -> None:
    body, _ = Exposition().render(Snapshot(), "")
    names = {metric.name for metric in parse(body.decode())}
    assert names >= {
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_cpu_seconds",
        "python_gc_collections",
        "python_info",
        "durable_streams_build_info",
    }


def test_metrics_of_a_host_program_are_not_mixed_in() -> None:
    from prometheus_client import Counter

    Counter("a_counter_of_the_host", "Belongs to another program.").inc()
    body, _ = Exposition().render(example(), "")
    assert b"a_counter_of_the_host" not in body


def test_one_text_does_not_contain_the_values_of_another() -> None:
    exposition = Exposition()
    exposition.render(example(), "")
    body, _ = exposition.render(Snapshot(), "")
    assert b"durable_streams_requests_total{" not in body
