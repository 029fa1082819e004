"""Decides deletes and expiries (PROTOCOL 5.4), and which streams are removed together."""

from ..commands import Delete, Expire
from ..existing import require_not_ended
from ..preconditions import check_conditions
from ..refusals import stream_not_found
from ..state import Change, Lookup, Removed, SoftDeleted, StreamState, source_of
from .outcomes import Decision, DeleteOutcome, Ignored
from .rules import Rules


def decide_delete(states: Lookup, command: Delete, now: int, rules: Rules) -> Decision:
    """Decides a client's delete."""
    if rules.registry is not None:
        rules.registry.refuse_write(command.path)
    state = states.get(command.path)
    if state is None or state.removed:
        raise stream_not_found()
    # A damaged stream can be deleted, because a delete needs none of its bytes.
    require_not_ended(state, state.soft_deleted, now)
    if command.conditions is not None:
        check_conditions(command.conditions, state)
    return Decision(remove_stream(states, state), DeleteOutcome(expired=False))


def decide_expire(states: Lookup, command: Expire, now: int) -> Decision:
    """Decides an expiry. Nothing changes unless the incarnation that the command names has expired."""
    state = states.get(command.path)
    if (
        state is None
        or state.incarnation != command.incarnation
        or state.soft_deleted
        or not state.expired(now)
    ):
        return Decision((), Ignored())
    return Decision(remove_stream(states, state), DeleteOutcome(expired=True))


def remove_stream(states: Lookup, state: StreamState) -> tuple[Change, ...]:
    """Returns the changes that remove a stream (PROTOCOL 4.2).

    A stream with forks is only soft-deleted. A stream without forks is removed, and so is each soft-deleted source that it was
    the last fork of.
    """
    if state.children:
        return (SoftDeleted(state.path, state.incarnation),)
    changes: list[Change] = [Removed(state.path, state.incarnation)]
    while (source := source_of(states, state.origin)) is not None:
        if not source.soft_deleted or source.children > 1:
            break
        changes.append(Removed(source.path, source.incarnation))
        state = source
    return tuple(changes)
