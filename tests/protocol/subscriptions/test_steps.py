"""Tests of the next step for a wake, and of the backoff between retries and wakes."""

import pytest

from durable_streams_server.protocol.subscriptions.changes import (
    LinkedStream,
    SubscriptionType,
    Wake,
)
from durable_streams_server.protocol.subscriptions.steps import (
    NOTHING,
    Step,
    StepKind,
    back_off,
    begin_at,
    next_step,
)
from tests.requests import NOW, SECOND

STREAM = LinkedStream("/a", False, "0", "1")


@pytest.mark.parametrize(
    ("kind", "wake", "step"),
    [
        ("webhook", None, NOTHING),
        ("webhook", Wake("w_o", next_attempt=5), Step(StepKind.DELIVER, 5)),
        ("webhook", Wake("w_o", lease_until=7, next_attempt=5), Step(StepKind.DELIVER, 5)),
        ("webhook", Wake("w_o", lease_until=7), Step(StepKind.TEND, 7)),
        ("webhook", Wake("w_earlier", next_attempt=5), Step(StepKind.TEND, 5)),
        (
            "webhook",
            Wake("w_earlier", next_attempt=5, snapshot=(STREAM,)),
            Step(StepKind.DELIVER, 5),
        ),
        ("pull-wake", Wake("w_o"), NOTHING),
        ("pull-wake", Wake("w_o", next_attempt=5), Step(StepKind.TEND, 5)),
        ("pull-wake", Wake("w_earlier", "holder", lease_until=7), Step(StepKind.TEND, 7)),
    ],
)
def test_next_step_follows_from_the_state_of_the_wake(
    kind: SubscriptionType, wake: Wake | None, step: Step
) -> None:
    assert next_step(kind, wake, "o") == step


def test_back_off_doubles_up_to_a_minute() -> None:
    assert [back_off(n) for n in (-1, 0, 1, 2, 5, 6, 7, 10_000)] == [1, 1, 2, 4, 32, 60, 60, 60]
    assert back_off(1, 0.2) == 2.4


@pytest.mark.parametrize(
    ("fruitless", "seconds"), [(0, 0), (1, 0), (2, 1), (3, 2), (4, 4), (7, 32), (8, 60), (99, 60)]
)
def test_wakes_without_progress_begin_with_growing_delays(fruitless: int, seconds: int) -> None:
    last = Wake("w", begun_at=NOW, fruitless=max(0, fruitless - 1))
    assert begin_at(NOW, last, fruitless) == NOW + seconds * SECOND
    assert begin_at(NOW + 100 * SECOND, last, fruitless) == NOW + 100 * SECOND


def test_wake_is_delayed_by_at_most_one_backoff_after_the_clock_was_set_back() -> None:
    last = Wake("w", begun_at=NOW + 3600 * SECOND, fruitless=1)
    assert begin_at(NOW, last, 2) == NOW + SECOND
