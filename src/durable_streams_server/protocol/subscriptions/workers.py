"""Decides the commands of workers: claim a wake, acknowledge offsets, renew a lease, release a wake (PROTOCOL 7).

A request must name its wake completely: its token by incarnation and generation, and its body by generation and wake id
(PROTOCOL 7.3). The server refuses a request about any other wake as FENCED.
"""

import msgspec

from ...errors import AlreadyClaimed, BadRequest, Conflict, Fenced, Gone, StreamError
from ..ancestry import locate
from ..offsets import Offset
from ..state import readable_state
from .changes import Wake
from .commands import Acknowledge, Claim, Release
from .context import Context, lease_end, passed_over
from .cursors import unread_from
from .outcomes import AckOutcome, Decided, Done
from .state import Subscriptions
from .steps import must_be_renamed
from .subscription import Subscription
from .views import view_of


def claim(context: Context, subscription: Subscription, command: Claim) -> Decided:
    """Gives the wake in flight to a worker, and begins its lease (PROTOCOL 7.2)."""
    draft = context.draft
    if subscription.config.kind != "pull-wake":
        raise BadRequest("only a pull-wake subscription can be claimed", "NOT_PULL_WAKE")
    wake, generation = draft.wake_of(subscription), draft.generation_of(subscription)
    if wake is None:
        raise Conflict("there is nothing to claim", "NOTHING_TO_CLAIM")
    passed = 0
    if wake.holder is not None:
        if not wake.is_over(context.now):
            raise AlreadyClaimed(
                "another worker holds the lease",
                details={"current_holder": wake.holder, "generation": generation},
            )
        if draft.first_due(subscription) is None:
            raise Conflict("there is nothing to claim", "NOTHING_TO_CLAIM")
        passed = passed_over(subscription, wake)
        generation, wake = draft.next_wake(subscription, wake)
    elif must_be_renamed(wake, context.subscriptions.opening):
        generation, wake = context.renamed_wake(subscription, wake)
    lease = lease_end(subscription, context.now)
    held = msgspec.structs.replace(
        wake, holder=command.worker, lease_until=lease, next_attempt=None
    )
    draft.set_wake(subscription, generation, held, passed)
    view = view_of(draft, subscription, context.states, context.now)
    return draft.finish(), view


def acknowledge(context: Context, command: Acknowledge | Release) -> Decided:
    """Moves cursors, and then ends the wake or renews its lease. A `Release` only ends the wake (PROTOCOL 7.1, 7.2)."""
    draft = context.draft
    subscription = context.require(command.grant.id)
    generation = draft.generation_of(subscription)
    wake = _fence(subscription, draft.wake_of(subscription), generation, command, context.now)
    if isinstance(command, Release):
        context.end_wake(subscription, wake)
        return draft.finish(), Done()
    wake = _move_cursors(context, subscription, wake, command.acks)
    if command.done:
        next_wake = context.end_wake(subscription, wake)
        return draft.finish(), AckOutcome(next_wake)
    held = msgspec.structs.replace(
        wake,
        lease_until=lease_end(subscription, context.now),
        next_attempt=None,
        attempts=0,
        snapshot=None,
        reason="no_progress" if wake.fruitless > 1 and not wake.has_moved else None,
    )
    draft.set_wake(subscription, generation, held)
    return draft.finish(), AckOutcome(False)


def _move_cursors(
    context: Context,
    subscription: Subscription,
    wake: Wake,
    acks: tuple[tuple[str, Offset], ...],
) -> Wake:
    """Moves cursors forward, never back, and returns the wake with its progress updated."""
    cleared, has_moved = wake.cleared, wake.has_moved
    for path, offset in acks:
        cursor, state = (
            context.draft.cursor(subscription, path),
            readable_state(context.states, path),
        )
        if cursor is None or state is None:
            continue
        try:
            position = locate(offset, state.incarnation, state.ancestry, state.tail)
        except Gone:
            continue  # the offset belongs to an earlier stream at this path
        here = unread_from(cursor, state)
        if here is not None and position > here.position:
            has_moved = True
            cleared += position == state.tail
            context.draft.set_cursor(subscription, path, None if position == state.tail else offset)
    return msgspec.structs.replace(wake, cleared=cleared, has_moved=has_moved)


def is_stale(subscriptions: Subscriptions, command: Acknowledge | Release, now: int) -> bool:
    """Returns whether a request would be refused because of the wake that it names."""
    subscription = subscriptions.get(command.grant.id)
    if subscription is None:
        return True
    try:
        _fence(subscription, subscription.wake, subscription.generation, command, now)
    except StreamError:
        return True
    return False


def _fence(
    subscription: Subscription,
    wake: Wake | None,
    generation: int,
    command: Acknowledge | Release,
    now: int,
) -> Wake:
    """Returns the wake in flight, after checking that the request names it completely (PROTOCOL 7.3).

    Raises:
        Fenced: the request is about another wake, or the lease is over.
    """
    grant = command.grant
    is_pull = subscription.config.kind == "pull-wake"
    if (
        wake is None
        or wake.is_over(now)
        or (is_pull and wake.holder is None)
        or grant.incarnation != subscription.incarnation
        or grant.generation != generation
        or command.generation != generation
        or command.wake_id != wake.wake_id
        or grant.wake_id not in ("", wake.wake_id)
    ):
        raise Fenced("this wake is not the subscription's present one")
    return wake
