"""Decides one command on the newest states. Every store calls the same pure function.

A decision names the changes to make durable in one record, and the outcome to answer with once they are durable. A refusal is
raised. No decision is ever rolled back, so everything that can be refused is refused before a change is named.
"""

from ...errors import BadRequest
from ..commands import Append, Command, Create, Delete, Expire
from ..lifetime import bounded
from ..limits import MAX_TIME, MIN_TIME
from ..state import Lookup
from ..subscriptions.commands import Subscribe, SubscriptionCommand
from ..subscriptions.decide import decide_subscription
from ..subscriptions.follow import follow
from ..subscriptions.state import Subscriptions
from .append import decide_append
from .create import decide_create
from .delete import decide_delete, decide_expire
from .outcomes import Decision
from .rules import Rules


def decide(
    states: Lookup,
    command: Command,
    now: int,
    incarnation: int,
    rules: Rules,
    subscriptions: Subscriptions,
) -> Decision:
    """Decides a command, and returns the changes of its record and its outcome.

    Args:
        states: the newest states of streams by path.
        command: the command.
        now: microseconds of steady time.
        incarnation: the number for a new incarnation, greater than that of every existing one.
        rules: the store's configuration.
        subscriptions: the newest states of subscriptions.

    Raises:
        StreamError: the command is refused, and nothing changes.
    """
    if not MIN_TIME <= now <= MAX_TIME:
        now = bounded(now)
    if isinstance(command, Append):
        decision = decide_append(states, command, now, rules)
    elif isinstance(command, Create):
        decision = decide_create(states, command, now, incarnation, rules)
    elif isinstance(command, Delete):
        decision = decide_delete(states, command, now, rules)
    elif isinstance(command, Expire):
        decision = decide_expire(states, command, now)
    else:
        _refuse_registry_as_wake_stream(rules, subscriptions, command)
        # The command creates and removes no stream, so the registry needs no event. `follow` is not needed either, because the
        # changes already include the wakes that the command's own wake events cause.
        offset = rules.timeline.offset
        return Decision(
            *decide_subscription(
                subscriptions, states, command, now, incarnation, offset, rules.announces
            )
        )
    changes = decision.changes
    if changes and rules.registry is not None:
        offset = rules.timeline.offset
        changes += rules.registry.record(states, changes, now, incarnation + 1, offset)
    if changes and subscriptions.by_id:  # `len` would add a call to each append
        changes += follow(subscriptions, states, changes, now, rules.timeline.offset)
    return decision if changes is decision.changes else Decision(changes, decision.outcome)


def _refuse_registry_as_wake_stream(
    rules: Rules, subscriptions: Subscriptions, command: SubscriptionCommand
) -> None:
    if rules.registry is None or not isinstance(command, Subscribe):
        return
    wake_stream = command.config.wake_stream
    if wake_stream is not None and wake_stream == subscriptions.relative(rules.registry.path):
        raise BadRequest("the registry cannot be a wake stream", "INVALID_WAKE_STREAM")
