"""Decides the commands of a webhook delivery: it begins, the receiver accepts it, or it fails and is put off (PROTOCOL 7.1)."""

import msgspec

from ...errors import StreamError
from ..ancestry import locate
from ..lifetime import bounded
from ..offsets import parse
from ..state import readable_state
from .changes import LinkedStream, Wake
from .commands import Deliver, Delivered, Undelivered
from .context import Context, lease_end
from .outcomes import Decided, Done
from .subscription import Subscription
from .views import brief_view, view_of


def decide_delivery(context: Context, command: Deliver | Delivered | Undelivered) -> Decided:
    """Begins or ends a delivery. A command about a wake that is over changes nothing, because it may arrive late."""
    grant = command.grant
    subscription = context.subscriptions.get(grant.id)
    if subscription is None:
        return (), Done()
    context.draft.take_news(subscription)
    wake = context.draft.wake_of(subscription)
    if (
        wake is None
        or subscription.incarnation != grant.incarnation
        or context.draft.generation_of(subscription) != grant.generation
        or grant.wake_id not in ("", wake.wake_id)
    ):
        return (), Done()
    if isinstance(command, Deliver):
        return _begin_delivery(context, subscription, wake)
    if isinstance(command, Delivered):
        _begin_lease(context, subscription, wake, command)
    else:
        _put_off(context, subscription, wake, command)
    return context.draft.finish(), Done()


def _begin_delivery(context: Context, subscription: Subscription, wake: Wake) -> Decided:
    draft, generation = context.draft, context.draft.generation_of(subscription)
    if not wake.is_due(context.now):
        return (), Done()
    if wake.snapshot is not None and all(_can_be_read(context, each) for each in wake.snapshot):
        view = brief_view(draft, subscription)
        return draft.finish(), msgspec.structs.replace(view, streams=wake.snapshot)
    if draft.first_due(subscription) is None:
        draft.set_wake(subscription, generation, None)
        return draft.finish(), Done()
    if wake.snapshot is not None:
        # A stream of the snapshot has ended. The next snapshot differs, so it needs another wake id.
        generation, wake = context.renamed_wake(subscription, wake)
        draft.set_wake(subscription, generation, msgspec.structs.replace(wake, snapshot=None))
        return draft.finish(), Done()
    return draft.finish(), view_of(draft, subscription, context.states, context.now)


def _can_be_read(context: Context, stream: LinkedStream) -> bool:
    """Returns whether a stream can still be read up to the tail that a snapshot has for it."""
    state = readable_state(context.states, stream.path)
    if stream.acked == stream.tail:
        return True
    if state is None or state.soft_deleted or state.damage is not None:
        return False
    try:
        locate(parse(stream.tail), state.incarnation, state.ancestry, state.tail)
    except StreamError:
        return False
    return True


def _begin_lease(
    context: Context, subscription: Subscription, wake: Wake, command: Delivered
) -> None:
    """Begins the lease of a wake that its webhook has accepted, or whose delivery has timed out."""
    if wake.next_attempt is None:
        return  # a heartbeat came before the response
    lease = max(wake.lease_until or 0, lease_end(subscription, bounded(command.sent_at)))
    problem = command.problem
    taken = msgspec.structs.replace(
        wake,
        next_attempt=None,
        lease_until=lease,
        attempts=0 if problem is None else wake.attempts + 1,
        snapshot=None,
        reason=problem or ("no_progress" if wake.fruitless > 1 else None),
    )
    context.draft.set_wake(subscription, context.draft.generation_of(subscription), taken)


def _put_off(
    context: Context, subscription: Subscription, wake: Wake, command: Undelivered
) -> None:
    """Puts a wake off after a failed delivery. It keeps its wake id only if the retry can send the same snapshot."""
    generation, snapshot = context.draft.generation_of(subscription), command.snapshot
    attempts = wake.attempts + 1
    if context.draft.first_due(subscription) is None:
        context.draft.set_wake(subscription, generation, None)
        return
    if snapshot is None or wake.has_moved:
        snapshot = None
        generation, wake = context.renamed_wake(subscription, wake)
    put_off = msgspec.structs.replace(
        wake,
        holder=None,
        lease_until=None,
        next_attempt=bounded(command.retry_at),
        attempts=attempts,
        snapshot=snapshot,
        reason=command.problem,
    )
    context.draft.set_wake(subscription, generation, put_off)
