"""What is next to be done about a wake, and when."""

import pytest

from durable_streams_server.protocol.subscriptions.changes import (
    LinkedStream,
    SubscriptionType,
    Wake,
)
from durable_streams_server.protocol.subscriptions.steps import StepKind, (
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
def test_each_state_of_a_wake_has_its_next_step(
    kind: SubscriptionType, wake: Wake | None, step: Step
) -> None:
    assert next_step(kind, wake, "o") == step


def test_back_off_doubles_up_to_a_minute() -> None:
    assert [back_off(n) for n in (-1, 0, 1, 2, 5, 6, 7, 10_000)] == [1, 1, 2, 4, 32, 60, 60, 60]
    assert back_off(1, 0.2) == 2.4


@pytest.mark.parametrize(
    ("fruitless", "seconds"), [(0, 0), (1, 0), (2, 1), (3, 2), (4, 4), (7, 32), (8, 60), (99, 60)]
)
def test_wakes_in_a_row_that_move_no_cursor_begin_further_and_further_apart(
    fruitless: int, seconds: int
) -> None:
    last = Wake("w", begun_at=NOW, fruitless=max(0, fruitless - 1))
    assert begin_at(NOW, last, fruitless) == NOW + seconds * SECOND
    assert begin_at(NOW + 100 * SECOND, last, fruitless) == NOW + 100 * SECOND


def test_clock_that_went_back_puts_no_wake_off_for_longer_than_a_back_off() -> None:
    last = Wake("w", begun_at=NOW + 3600 * SECOND, fruitless=1)
    assert begin_at(NOW, last, 2) == NOW + SECOND
