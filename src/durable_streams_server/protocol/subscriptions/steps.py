"""Computes the next step for a subscription and its time, and the backoff between deliveries and between wakes.

The server examines a subscription whenever it changes, and when its next step is due. Each time it computes the next step with one
pure function, so no subscription is left without a next step.
"""

import enum
from typing import Final, NamedTuple

from ..limits import MAX_RETRY_DELAY
from ..units import SECOND
from .changes import SubscriptionType, Wake

_FIRST_DELAY: Final = 1.0  #: seconds before the first retry (PROTOCOL 7.1)
#: Maximum number of consecutive wakes without progress after which the next wake still begins at once.
_AT_ONCE: Final = 1


class StepKind(enum.Enum):
    """The kinds of steps: nothing, a delivery, or upkeep by `Tend`."""

    NOTHING = "nothing"
    DELIVER = "deliver"  # deliver the wake to its webhook
    TEND = "tend"  # end a wake whose lease is over, or announce a wake that was put off


class Step(NamedTuple):
    """The next step for a subscription.

    Attributes:
        what: the kind of step.
        at: the time of the step, in microseconds of steady time, or None if there is nothing to do.
    """

    what: StepKind
    at: int | None


NOTHING: Final = Step(StepKind.NOTHING, None)


def next_step(kind: SubscriptionType, wake: Wake | None, opening: str) -> Step:
    """Returns the next step for a subscription.

    Args:
        kind: the type of the subscription.
        wake: the wake in flight, or None.
        opening: the name of this opening of the store.
    """
    if wake is None:
        return NOTHING
    if wake.next_attempt is not None:
        is_delivered = kind == "webhook" and not must_be_renamed(wake, opening)
        return Step(StepKind.DELIVER if is_delivered else StepKind.TEND, wake.next_attempt)
    if wake.lease_until is not None:
        return Step(StepKind.TEND, wake.lease_until)
    return NOTHING  # an announced pull-wake waits until a worker claims it


def must_be_renamed(wake: Wake, opening: str) -> bool:
    """Returns whether a wake needs another wake id before it is delivered or claimed.

    This is the case if the wake began before this opening of the store and no snapshot of it is kept. A worker may then have seen
    the same wake id with other tails, because the store may since have been set back to an earlier state, for example to a restored
    copy.
    """
    return wake.snapshot is None and not wake.wake_id.endswith(f"_{opening}")


def back_off(attempts: int, jitter: float = 0.0) -> float:
    """Returns the seconds until the next retry, by exponential backoff from 1 to 60 seconds (PROTOCOL 7.1).

    Args:
        attempts: the number of earlier failures, without the last one.
        jitter: the fraction of the delay to add, from -0.2 to 0.2.
    """
    delay = min(MAX_RETRY_DELAY, _FIRST_DELAY * 2.0 ** min(max(0, attempts), 16))
    return delay * (1 + jitter)


def begin_at(now: int, last: Wake, fruitless: int) -> int:
    """Returns the time at which the wake after `last` may begin, in microseconds of steady time.

    The first wake after one that moved no cursor may begin at once. Each further wake begins one backoff after the beginning of the
    wake before it, until a cursor moves.

    Args:
        now: microseconds of steady time.
        last: the wake that has just ended.
        fruitless: the number of consecutive wakes that moved no cursor, including `last`.
    """
    if fruitless <= _AT_ONCE:
        return now
    apart = round(back_off(fruitless - _AT_ONCE - 1) * SECOND)
    return max(now, min(last.begun_at, now) + apart)
