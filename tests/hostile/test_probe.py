from benchmarks.stall.probe import percentile


def test_percentile_without_answers_is_zero() -> None:
    assert percentile([], 0.99, 0.001) == 0.0


def test_percentile_of_short_delays_is_theirs() -> None:
    assert percentile([0.0001] * 99 + [0.0005], 0.99, 0.001) == 0.0005


def test_stall_counts_for_each_request_that_would_have_waited() -> None:
    # One answer of 100 takes a second, in which a thousand requests would have been sent.
    assert percentile([0.0001] * 99 + [1.0], 0.5, 0.001) > 0.4
