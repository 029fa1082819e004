"""The arithmetic of token buckets, which limit how often or how much a client may do in a second.

A bucket holds the tokens of `BURST` nanoseconds, and is refilled at a constant rate. Its state is one number: the time at which it is full
again. A cost is given as the time that the bucket takes to refill it, so one state serves any rate, and a bucket that is full needs no
state. All times are whole nanoseconds, so no rounding ever refuses a client that has waited as long as it was told to.
"""

from typing import Final

from .units import NANOSECONDS

#: Nanoseconds in which an empty bucket is full again. A client that was silent for this long may do the work of this time at once.
BURST: Final = 5 * NANOSECONDS


def time_of(amount: int, per_second: int) -> int:
    """Returns the nanoseconds in which a bucket with a rate of `per_second` is refilled by `amount`."""
    return amount * NANOSECONDS // per_second


def wait_for(full_at: int, now: int, cost: int) -> int:
    """Returns the nanoseconds until a bucket can pay a cost, or 0 if it can pay now.

    A cost above `BURST` is paid by a full bucket, which is then in debt. Otherwise it could never be paid.

    Args:
        full_at: when the bucket is full again.
        now: the present time.
        cost: the time in which the bucket is refilled by the cost.
    """
    missing = full_at - now
    if missing <= 0:
        return 0
    return max(0, missing + min(cost, BURST) - BURST)


def pay(full_at: int, now: int, cost: int) -> int:
    """Returns when a bucket is full again after it has paid a cost. The arguments are those of `wait_for`."""
    return max(full_at, now) + cost


def whole_seconds(wait: int) -> int:
    """Returns a time above zero in seconds, rounded up, for `Retry-After`."""
    return -(-wait // NANOSECONDS)
