"""The clock tells Unix time in microseconds."""

import time

from durable_streams_server.streams.clock import system_clock


def test_the_system_clock_counts_microseconds() -> None:
    before = time.time()
    assert before - 0.001 <= system_clock() / 1_000_000 <= time.time() + 0.001
