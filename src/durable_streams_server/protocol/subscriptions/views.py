"""A subscription as it is shown: to its owner, to a worker that has claimed it, to a webhook."""

from typing import Final

import msgspec

from ..offsets import ZERO
from ..state import Lookup, StreamState, Unreadable
from .changes import Config, LinkedStream, Snapshot, Wake
from .commands import Grant
from .cursors import unread_from
from .draft import Draft
from .subscription import Subscription
from .wake_events import wake_stream_problem

MAX_LISTED: Final = 1_000  # streams told of with one wake; the next wake tells of others
_MAX_DAMAGED: Final = 100  # damaged streams that are named


class View(msgspec.Struct, frozen=True):
    """A subscription at one moment.

    Attributes:
        id: the client's name for it.
        incarnation: tells it from earlier ones of that id.
        config: as it was created.
        created_at: microseconds of Unix time.
        reason: why its status is `failed`, in one word; None while it is `active`.
        generation: of its newest wake.
        wake: the wake in flight.
        streams: those with news first, then those linked by name; a bounded number.
        truncated: whether there are more of these.
        damaged: streams with news that cannot be read, so that no wake tells of them; a bounded number.
    """

    id: str
    incarnation: int
    config: Config
    created_at: int
    reason: str | None
    generation: int
    wake: Wake | None
    streams: Snapshot = ()
    truncated: bool = False
    damaged: tuple[str, ...] = ()

    @property
    def status(self) -> str:
        """`active` or `failed` (PROTOCOL 6.3)."""
        return "active" if self.reason is None else "failed"

    @property
    def grant(self) -> Grant:
        """What a token for its newest wake allows."""
        wake_id = "" if self.wake is None else self.wake.wake_id
        return Grant(self.id, self.incarnation, self.generation, wake_id)


def brief_view(draft: Draft, subscription: Subscription) -> View:
    """Returns a subscription as a draft leaves it, without its streams."""
    wake = draft.wake_of(subscription)
    return View(
        subscription.id,
        subscription.incarnation,
        subscription.config,
        subscription.created_at,
        None if wake is None else wake.problem,
        draft.generation_of(subscription),
        wake,
    )


def view_of(draft: Draft, subscription: Subscription, states: Lookup, now: int) -> View:
    """Returns a subscription as a draft leaves it."""
    brief = brief_view(draft, subscription)
    streams, damaged, truncated = _listed(draft, subscription, states)
    reason = brief.reason or _wake_stream_problem(subscription, brief.wake, states, now)
    if reason is None and damaged:
        reason = "stream_damaged"
    if reason is None and draft.missed(subscription)[0]:
        reason = "too_many_streams"
    return msgspec.structs.replace(
        brief, streams=streams, truncated=truncated, damaged=damaged, reason=reason
    )


def _listed(
    draft: Draft, subscription: Subscription, states: Lookup
) -> tuple[Snapshot, tuple[str, ...], bool]:
    """Returns the streams that are told of, those that are damaged, and whether there are more of the first."""
    found: dict[str, LinkedStream] = {}
    damaged: list[str] = []
    for path, cursor in draft.cursors(subscription):
        if len(found) == MAX_LISTED:
            return tuple(found.values()), tuple(damaged), True
        try:
            state = states.get(path)
        except Unreadable:
            state = None
            is_damaged = True
        else:
            is_damaged = state is not None and state.damage is not None
        if is_damaged and len(damaged) < _MAX_DAMAGED:
            damaged.append(path)
        if state is not None and not is_damaged:
            here = unread_from(cursor, state)
            if here is not None:
                tail = state.name(state.tail)
                explicit = path in subscription.streams
                found[path] = LinkedStream(path, explicit, str(here), tail)
    for path in subscription.streams:
        if path in found or draft.cursor(subscription, path) is not None:
            continue
        if len(found) == MAX_LISTED:
            return tuple(found.values()), tuple(damaged), True
        found[path] = _at_tail(path, states)
    return tuple(found.values()), tuple(damaged), False


def _at_tail(path: str, states: Lookup) -> LinkedStream:
    """Returns an explicitly linked stream without news; of one that is not there, both offsets are the start."""
    try:
        state: StreamState | None = states.get(path)
    except Unreadable:
        state = None
    if state is None or state.soft_deleted:
        return LinkedStream(path, True, str(ZERO), str(ZERO))
    tail = state.name(state.tail)
    return LinkedStream(path, True, tail, tail)


def _wake_stream_problem(
    subscription: Subscription, wake: Wake | None, states: Lookup, now: int
) -> str | None:
    """Returns why the wake in flight could not be announced, if it is a pull-wake's and nobody has claimed it."""
    path = subscription.wake_stream
    if path is None or wake is None or wake.holder is not None:
        return None
    try:
        return wake_stream_problem(states.get(path), now)
    except Unreadable:
        return "wake_stream_damaged"
