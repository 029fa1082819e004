"""Tests of the probe that measures the delays of cheap reads."""

from benchmarks.stall.probe import percentile


def test_percentile_without_answers_is_zero() -> None:
    assert percentile([], 0.99, 0.001) == 0.0


def test_percentile_of_short_delays_is_the_delay_at_that_rank() -> None:
    assert percentile([0.0001] * 99 + [0.0005], 0.99, 0.001) == 0.0005


def test_percentile_counts_a_stall_once_for_each_request_that_it_delays() -> None:
    # One of 100 responses takes a second. A client with a steady rate would have sent a thousand requests in that time.
    assert percentile([0.0001] * 99 + [1.0], 0.5, 0.001) > 0.4
