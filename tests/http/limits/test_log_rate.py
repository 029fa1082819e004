"""The limit on the rate of log messages."""

from durable_streams_server.http.limits.log_rate import LogRate


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_first_event_is_logged_at_once() -> None:
    assert LogRate(Clock()).count() == 1


def test_events_within_a_minute_are_counted_and_reported_together() -> None:
    clock = Clock()
    rate = LogRate(clock)
    rate.count()
    assert [rate.count() for _ in range(3)] == [0, 0, 0]
    clock.now += 60
    assert rate.count() == 4
    assert rate.count() == 0
