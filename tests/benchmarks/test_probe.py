"""Tests of the probe that measures the delays of cheap reads."""

from benchmarks.stall.probe import percentile


def test_percentile_of_no_delays_is_zero() -> None:
    assert percentile([], 0.99, 0.001) == 0.0


def test_percentile_without_a_stall_is_the_delay_at_its_rank() -> None:
    assert percentile([0.0001] * 99 + [0.0005], 0.99, 0.001) == 0.0005


def test_percentile_counts_every_request_that_a_stall_would_delay() -> None:
    # One of 100 responses takes a second. A client with a steady rate would have sent a thousand requests in that time.
    assert percentile([0.0001] * 99 + [1.0], 0.5, 0.001) > 0.4
