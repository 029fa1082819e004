"""Decides one subscription command: (subscriptions, states, command, now) -> changes and outcome (PROTOCOL 6, 7).

A wake moves through these states, and each arrow is one record:

    idle --append--> in flight --claim, or delivery accepted--> leased --done, release, lease over--> idle, or the next wake
                     in flight --delivery failed--> in flight, put off

The rules are in `owners.py`, `workers.py`, `deliveries.py` and `upkeep.py`, by who sends the command.
"""

from ..state import Lookup
from .changes import Unsubscribed
from .commands import (
    Acknowledge,
    Claim,
    Deliver,
    Delivered,
    Inspect,
    KeepKeys,
    Link,
    Recall,
    Release,
    Subscribe,
    SubscriptionCommand,
    TakeNews,
    Tend,
    Undelivered,
    Unlink,
)
from .context import Context
from .deliveries import decide_delivery
from .draft import Draft
from .outcomes import Decided, Done
from .owners import link, subscribe, unlink
from .state import Subscriptions
from .upkeep import keep_keys, recall, take_news, tend
from .views import view_of
from .workers import acknowledge, claim


def decide_subscription(
    subscriptions: Subscriptions,
    states: Lookup,
    command: SubscriptionCommand,
    now: int,
    incarnation: int,
    offset: int = 0,
    announces: bool = True,
) -> Decided:
    """Decides a subscription command, and returns the changes of its record and its outcome.

    Args:
        subscriptions: the newest states of subscriptions.
        states: the newest states of streams.
        command: the command.
        now: microseconds of steady time.
        incarnation: the number for a new subscription, greater than that of every existing one.
        offset: microseconds by which the wall clock is ahead of steady time, for dates.
        announces: whether events may be appended to wake streams. If not, they are put off.

    Raises:
        StreamError: the command is refused, and nothing changes.
    """
    if isinstance(command, KeepKeys):
        return keep_keys(subscriptions, command)
    draft = Draft(subscriptions, states, (), now, offset, announces)
    if isinstance(command, TakeNews):
        return take_news(draft, subscriptions, command)
    context = Context(subscriptions, states, draft, now)
    if isinstance(command, Subscribe):
        return subscribe(context, command, incarnation, offset)
    if isinstance(command, Deliver | Delivered | Undelivered):
        return decide_delivery(context, command)
    if isinstance(command, Acknowledge | Release):
        return acknowledge(context, command)
    subscription = context.require(command.id)
    if isinstance(command, Claim):
        return claim(context, subscription, command)
    if isinstance(command, Link):
        return link(context, subscription, command)
    if isinstance(command, Unlink):
        return unlink(context, subscription, command)
    if isinstance(command, Inspect):
        return (), view_of(draft, subscription, states, now)
    if isinstance(command, Tend):
        return tend(context, subscription)
    if isinstance(command, Recall):
        return recall(context, subscription, command)
    return (Unsubscribed(subscription.id, subscription.incarnation),), Done()
