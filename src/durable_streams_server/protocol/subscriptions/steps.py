"""What is next to be done about a subscription, and when: one pure function, so that no look at a subscription can end without
a plan.

The server looks at a subscription when it has changed, and when the time of its last plan has come. Every look ends with a
`Step`: to be taken now, or at a time, or never as things are.
"""

import enum
from typing import Final, NamedTuple

from ..limits import MAX_RETRY_DELAY
from ..units import SECOND
from .changes import SubscriptionType, Wake

_FIRST_DELAY: Final = 1.0  # seconds, PROTOCOL 7.1
_AT_ONCE: Final = (
    1  # a wake after one that moved no cursor begins at once; only the next are put off
)


class What(enum.Enum):
    """What is to be done."""

    NOTHING = "nothing"
    DELIVER = "deliver"  # the wake, to its webhook
    TEND = "tend"  # a lease has run out, or a wake that was put off is to be announced


class Step(NamedTuple):
    """The next thing to do.

    Attributes:
        what: is to be done.
        at: microseconds of steady time; None for nothing.
    """

    what: What
    at: int | None


NOTHING: Final = Step(What.NOTHING, None)


def next_step(kind: SubscriptionType, wake: Wake | None, opening: str) -> Step:
    """Returns what is next to be done about a subscription's wake.

    Args:
        kind: of the subscription.
        wake: the wake in flight.
        opening: names this opening of the store.
    """
    if wake is None:
        return NOTHING
    if wake.next_attempt is not None:
        is_delivered = kind == "webhook" and not must_be_renamed(wake, opening)
        return Step(What.DELIVER if is_delivered else What.TEND, wake.next_attempt)
    if wake.lease_until is not None:
        return Step(What.TEND, wake.lease_until)
    return NOTHING  # a pull-wake that was announced waits for a worker


def must_be_renamed(wake: Wake, opening: str) -> bool:
    """Whether a wake needs another name before it is delivered or claimed: a worker may have been told of it before the store was
    opened, and nobody knows with which tails. The store may have gone back to an earlier state since, as a restored copy does."""
    return wake.told is None and not wake.wake_id.endswith(f"_{opening}")


def back_off(attempts: int, jitter: float = 0.0) -> float:
    """Returns the seconds until something is tried again (PROTOCOL 7.1): 1, 2, 4 and so on, at most a minute.

    Args:
        attempts: how many have failed before the last one.
        jitter: from -0.2 to 0.2.
    """
    delay = min(MAX_RETRY_DELAY, _FIRST_DELAY * 2.0 ** min(max(0, attempts), 16))
    return delay * (1 + jitter)


def begin_at(now: int, last: Wake, fruitless: int) -> int:
    """Returns when the wake after `last` may begin, in microseconds of steady time.

    Two wakes in a row that move no cursor may follow each other at once. After that each begins a back-off later than the one
    before it began, until a cursor moves.

    Args:
        now: microseconds of steady time.
        last: the wake that ends.
        fruitless: how many wakes in a row have moved no cursor, `last` included.
    """
    if fruitless <= _AT_ONCE:
        return now
    apart = round(back_off(fruitless - _AT_ONCE - 1) * SECOND)
    return max(now, min(last.begun_at, now) + apart)
