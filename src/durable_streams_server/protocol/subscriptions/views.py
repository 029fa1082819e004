"""Builds the view of a subscription that the server shows to its owner, to workers and to webhooks."""

from typing import Final

import msgspec

from ..offsets import ZERO
from ..state import Lookup, Unreadable, readable_state
from .changes import Config, LinkedStream, Snapshot, Wake
from .commands import Grant
from .cursors import unread_from
from .draft import Draft
from .subscription import Subscription
from .wake_events import wake_stream_problem

MAX_LISTED: Final = (
    1_000  #: maximum number of streams that one wake lists; the next wake lists others
)
_MAX_DAMAGED: Final = 100  #: maximum number of damaged streams that one view lists


class View(msgspec.Struct, frozen=True):
    """A subscription as it is at one time.

    Attributes:
        id: the id that the client chose.
        incarnation: the number that distinguishes the subscription from earlier ones with the same id.
        config: the configuration that it was created with.
        created_at: the time of its creation, in microseconds of Unix time.
        reason: the reason why its status is `failed`, in one word, or None while it is `active`.
        generation: the number of its newest wake.
        wake: the wake in flight, or None.
        streams: at most `MAX_LISTED` streams, those with unread bytes first, then the other explicitly linked ones.
        truncated: whether there are more streams than `streams` lists.
        damaged: the paths of some streams with unread bytes that the store cannot read. No wake lists these streams.
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
        """The status of the subscription: `active` or `failed` (PROTOCOL 6.3)."""
        return "active" if self.reason is None else "failed"

    @property
    def grant(self) -> Grant:
        """The permission that a token for the newest wake carries."""
        wake_id = "" if self.wake is None else self.wake.wake_id
        return Grant(self.id, self.incarnation, self.generation, wake_id)


def brief_view(draft: Draft, subscription: Subscription) -> View:
    """Returns the view of a subscription after a draft, without its streams."""
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
    """Returns the view of a subscription after a draft, with its streams."""
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
    """Returns the streams to list, the paths of damaged streams, and whether there are more streams to list."""
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
    """Returns an explicitly linked stream without unread bytes. Both offsets of a missing stream are zero."""
    state = readable_state(states, path)
    if state is None or state.soft_deleted:
        return LinkedStream(path, True, str(ZERO), str(ZERO))
    tail = state.name(state.tail)
    return LinkedStream(path, True, tail, tail)


def _wake_stream_problem(
    subscription: Subscription, wake: Wake | None, states: Lookup, now: int
) -> str | None:
    """Returns the reason why an unclaimed pull-wake could not be announced, in one word, or None."""
    path = subscription.wake_stream
    if path is None or wake is None or wake.holder is not None:
        return None
    try:
        return wake_stream_problem(states.get(path), now)
    except Unreadable:
        return "wake_stream_damaged"
