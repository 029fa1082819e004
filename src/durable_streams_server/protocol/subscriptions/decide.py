"""The rules of subscriptions: (subscriptions, states, command, now) -> changes and outcome (PROTOCOL 6, 7).

A wake goes through these states; each arrow is one record:

    idle --append--> in flight --claim, or delivery taken--> leased --done, release, lapse--> idle, or the next wake
                     in flight --delivery failed--> in flight, later; the next wake if the receiver may still be at work

Whoever acts on a wake must name it wholly: the token's incarnation and generation, the request's generation and wake id
(PROTOCOL 7.3). Anything stale is FENCED.
"""

from typing import Final

import msgspec

from ...errors import (
    AlreadyClaimed,
    BadRequest,
    Conflict,
    Fenced,
    Gone,
    NotFound,
    StreamError,
    TooManyRequests,
)
from ..ancestry import locate
from ..lifetime import bounded
from ..media import Kind
from ..offsets import ZERO, Offset
from ..signing import Key
from ..state import Change, Lookup, StreamState
from .changes import (
    Config,
    KeysKept,
    Relinked,
    Subscribed,
    Unsubscribed,
    Wake,
    WakeChanged,
)
from .commands import (
    MAX_LINKS,
    Acknowledge,
    Claim,
    Delivered,
    Grant,
    KeepKeys,
    Lapse,
    Link,
    Look,
    Release,
    Subscribe,
    SubscriptionCommand,
    Undelivered,
    Unlink,
)
from .state import Subscription, Subscriptions
from .wakes import Draft, wake_name

MAX_SUBSCRIPTIONS: Final = 100_000  # each costs about 1 KiB of memory
MAX_LISTED: Final = 1_000  # streams told of with one wake; the next wake tells of more
_MILLISECOND: Final = 1_000  # microseconds
_RETRY: Final = (b"retry-after", b"1")


class LinkedStream(msgspec.Struct, frozen=True):
    """One stream as a worker is told of it.

    Attributes:
        path: the stream's path.
        explicit: whether it is linked by name, which takes precedence over a pattern (PROTOCOL 6.1).
        acked: the acknowledged offset.
        tail: the offset after its last byte; the same as `acked` when there is no news.
    """

    path: str
    explicit: bool
    acked: str
    tail: str


class View(msgspec.Struct, frozen=True):
    """A subscription at one moment.

    Attributes:
        id: the client's name for it.
        incarnation: tells it from earlier ones of that id.
        config: as it was created.
        created_at: microseconds of Unix time.
        status: `active` or `failed`.
        generation: of its newest wake.
        wake: the wake in flight.
        streams: those with news first, then those linked by name; a bounded number.
        truncated: whether there are more of these.
    """

    id: str
    incarnation: int
    config: Config
    created_at: int
    status: str
    generation: int
    wake: Wake | None
    streams: tuple[LinkedStream, ...]
    truncated: bool = False

    @property
    def grant(self) -> Grant:
        """What a token for its newest wake allows."""
        return Grant(self.id, self.incarnation, self.generation)


class SubscribeOutcome(msgspec.Struct, frozen=True):
    """A subscription stands: new, or already there with the same configuration."""

    view: View
    created: bool


class AckOutcome(msgspec.Struct, frozen=True):
    """The acks are in.

    Attributes:
        next_wake: whether another wake has begun at once, because there was more news.
    """

    next_wake: bool


class Done(msgspec.Struct, frozen=True):
    """What was asked for is so."""


class KeysOutcome(msgspec.Struct, frozen=True):
    """The keys that are kept now; those asked for, or the ones that were in their way."""

    keys: tuple[Key, ...]


SubscriptionOutcome = SubscribeOutcome | View | AckOutcome | Done | KeysOutcome

Decided = tuple[tuple[Change, ...], SubscriptionOutcome]


def decide_subscription(
    subscriptions: Subscriptions,
    states: Lookup,
    command: SubscriptionCommand,
    now: int,
    incarnation: int,
    offset: int = 0,
) -> Decided:
    """Decides a command.

    Args:
        subscriptions: the newest states of subscriptions.
        states: the newest states of streams.
        command: what is asked for.
        now: microseconds of steady time.
        incarnation: the number that a new subscription would get; every older one is smaller.
        offset: microseconds by which the wall clock is ahead, for dates.

    Raises:
        StreamError: when the command is refused; nothing changes then.
    """
    if isinstance(command, Subscribe):
        return _subscribe(subscriptions, states, command, now, incarnation, offset)
    if isinstance(command, KeepKeys):
        return _keep_keys(subscriptions, command)
    if isinstance(command, Lapse | Delivered | Undelivered):
        return _own(subscriptions, states, command, now, offset)
    if isinstance(command, Acknowledge | Release):
        subscription = _require(subscriptions, command.grant.id)
        wake = _fence(subscription, command, now)
        draft = Draft(subscriptions, states, (), now, offset)
        if isinstance(command, Acknowledge):
            return _acknowledge(draft, subscription, states, wake, command, now)
        return _end(draft, subscription), Done()
    subscription = _require(subscriptions, command.id)
    if isinstance(command, Claim):
        return _claim(subscription, states, command, now)
    if isinstance(command, Link):
        return _link(subscription, command)
    if isinstance(command, Unlink):
        return _unlink(subscriptions, subscription, states, command, now, offset)
    if isinstance(command, Look):
        return (), view_of(subscription, states)
    return (Unsubscribed(subscription.id, subscription.incarnation),), Done()


def view_of(subscription: Subscription, states: Lookup) -> View:
    """Returns a subscription as it is now."""
    streams, truncated = _listed(subscription, states)
    return View(
        subscription.id,
        subscription.incarnation,
        subscription.config,
        subscription.created_at,
        subscription.status,
        subscription.generation,
        subscription.wake,
        streams,
        truncated,
    )


def linked(subscription: Subscription, path: str, state: StreamState | None) -> LinkedStream:
    """Returns one stream as a worker is told of it; of one that is not there, both offsets are the start."""
    explicit = path in subscription.streams
    if state is None or state.soft_deleted:
        return LinkedStream(path, explicit, str(ZERO), str(ZERO))
    tail = state.name(state.tail)
    acked = subscription.due.get(path)
    return LinkedStream(path, explicit, tail if acked is None else str(acked), tail)


def _listed(subscription: Subscription, states: Lookup) -> tuple[tuple[LinkedStream, ...], bool]:
    found: dict[str, LinkedStream] = {}
    for path in (*subscription.due, *subscription.streams):
        if path in found:
            continue
        if len(found) == MAX_LISTED:
            return tuple(found.values()), True
        found[path] = linked(subscription, path, states.get(path))
    return tuple(found.values()), False


def _require(subscriptions: Subscriptions, id_: str) -> Subscription:
    subscription = subscriptions.get(id_)
    if subscription is None:
        raise NotFound("there is no such subscription", "SUBSCRIPTION_NOT_FOUND")
    return subscription


def _subscribe(
    subscriptions: Subscriptions,
    states: Lookup,
    command: Subscribe,
    now: int,
    incarnation: int,
    offset: int,
) -> Decided:
    existing = subscriptions.get(command.id)
    if existing is not None:
        if existing.config.digest != command.config.digest:
            raise Conflict(
                "a subscription with another configuration has this id", "SUBSCRIPTION_EXISTS"
            )
        return (), SubscribeOutcome(view_of(existing, states), False)
    if len(subscriptions) >= MAX_SUBSCRIPTIONS:
        raise TooManyRequests(
            "there are too many subscriptions", "TOO_MANY_SUBSCRIPTIONS", [_RETRY]
        )
    wake_stream = command.config.wake_stream
    channel = None if wake_stream is None else states.get(wake_stream)
    if channel is not None and channel.media.kind is not Kind.JSON:
        raise BadRequest("a wake stream must be one of JSON", "INVALID_WAKE_STREAM")
    draft = Draft(subscriptions, states, (), now, offset)
    if wake_stream is not None:
        for other in subscriptions.watchers(wake_stream):
            if wake_stream not in other.streams:
                draft.end_of_link(other, wake_stream)  # no pattern links it any more
    fresh = Subscription(command.id, incarnation, command.config, now + offset)
    change = Subscribed(command.id, incarnation, command.config, now + offset)
    return (change, *draft.finish()), SubscribeOutcome(view_of(fresh, states), True)


def _link(subscription: Subscription, command: Link) -> Decided:
    if subscription.config.wake_stream in command.paths:
        raise BadRequest(
            "a wake stream cannot be linked to its own subscription", "INVALID_SUBSCRIPTION"
        )
    added = tuple(path for path in command.paths if path not in subscription.streams)
    if len(subscription.streams) + len(added) > MAX_LINKS:
        raise TooManyRequests("the subscription has too many links", "TOO_MANY_LINKS", [_RETRY])
    return ((Relinked(subscription.id, added, ()),) if added else ()), Done()


def _unlink(
    subscriptions: Subscriptions,
    subscription: Subscription,
    states: Lookup,
    command: Unlink,
    now: int,
    offset: int,
) -> Decided:
    path = command.path
    if path not in subscription.streams:
        return (), Done()
    change = Relinked(subscription.id, (), (path,))
    if subscriptions.matches(subscription, path):
        return (change,), Done()
    draft = Draft(subscriptions, states, (), now, offset)
    draft.end_of_link(subscription, path)
    return (change, *draft.finish()), Done()


def _claim(subscription: Subscription, states: Lookup, command: Claim, now: int) -> Decided:
    if subscription.config.kind != "pull-wake":
        raise BadRequest("only a pull-wake subscription can be claimed", "NOT_PULL_WAKE")
    wake, generation = subscription.wake, subscription.generation
    if wake is None:
        raise Conflict("there is nothing to claim", "NOTHING_TO_CLAIM")
    if wake.holder is not None:
        if not _is_over(wake, now):
            raise AlreadyClaimed(
                "another worker holds the lease",
                details={"current_holder": wake.holder, "generation": generation},
            )
        if not subscription.due:
            raise Conflict("there is nothing to claim", "NOTHING_TO_CLAIM")
        generation += 1  # its lease has run out, whether or not the sweep has seen it yet
        wake = Wake(wake_name(subscription, generation))
    wake = msgspec.structs.replace(
        wake, holder=command.worker, lease_until=_lease(subscription, now)
    )
    view = msgspec.structs.replace(view_of(subscription, states), generation=generation, wake=wake)
    return (WakeChanged(subscription.id, generation, wake),), view


def is_stale(subscriptions: Subscriptions, command: Acknowledge | Release, now: int) -> bool:
    """Whether a request would be refused for the wake that it names."""
    try:
        _fence(_require(subscriptions, command.grant.id), command, now)
    except StreamError:
        return True
    return False


def _fence(subscription: Subscription, command: Acknowledge | Release, now: int) -> Wake:
    """Returns the wake in flight, if it is the one that a request names wholly (PROTOCOL 7.3)."""
    wake, grant = subscription.wake, command.grant
    is_pull = subscription.config.kind == "pull-wake"
    if (
        wake is None
        or _is_over(wake, now)
        or (is_pull and wake.holder is None)
        or grant.incarnation != subscription.incarnation
        or grant.generation != subscription.generation
        or command.generation != subscription.generation
        or command.wake_id != wake.wake_id
    ):
        raise Fenced("this wake is not the subscription's present one")
    return wake


def _acknowledge(
    draft: Draft,
    subscription: Subscription,
    states: Lookup,
    wake: Wake,
    command: Acknowledge,
    now: int,
) -> Decided:
    moved: dict[str, Offset] = {}
    for path, offset in command.acks:
        state = states.get(path)
        if state is None:
            continue
        try:
            position = locate(offset, state.incarnation, state.ancestry, state.tail)
        except Gone:
            continue  # of an earlier stream at this path
        known = moved.get(path) or subscription.due.get(path)
        if known is not None and position > known.position:
            moved[path] = offset
            draft.move(subscription, path, None if position == state.tail else offset)
    if command.done:
        next_wake = draft.first_due(subscription) is not None
        return _end(draft, subscription), AckOutcome(next_wake)
    lease = _lease(subscription, now)
    held = msgspec.structs.replace(wake, lease_until=lease, next_attempt=None, attempts=0)
    change = WakeChanged(subscription.id, subscription.generation, held)
    return (*draft.finish(), change), AckOutcome(False)


def _own(
    subscriptions: Subscriptions,
    states: Lookup,
    command: Lapse | Delivered | Undelivered,
    now: int,
    offset: int,
) -> Decided:
    """The server's own commands. They come late at times: one about a wake that is over does nothing."""
    grant = command.grant
    subscription = subscriptions.get(grant.id)
    if (
        subscription is None
        or subscription.incarnation != grant.incarnation
        or subscription.generation != grant.generation
        or subscription.wake is None
    ):
        return (), Done()
    wake = subscription.wake
    if isinstance(command, Lapse):
        if not _is_over(wake, now):
            return (), Done()
        return _end(Draft(subscriptions, states, (), now, offset), subscription), Done()
    if wake.next_attempt is None:
        return (), Done()
    generation = subscription.generation
    if isinstance(command, Delivered):
        lease = max(wake.lease_until or 0, _lease(subscription, bounded(command.sent_at)))
        wake = msgspec.structs.replace(wake, next_attempt=None, lease_until=lease, attempts=0)
    else:
        if command.timed_out:
            generation += 1
        wake = Wake(
            wake_name(subscription, generation),
            next_attempt=bounded(command.retry_at),
            attempts=wake.attempts + 1,
        )
    return (WakeChanged(subscription.id, generation, wake),), Done()


def _end(draft: Draft, subscription: Subscription) -> tuple[Change, ...]:
    """Ends the wake in flight, and begins the next one if there is news left (PROTOCOL 7.1 to 7.3)."""
    path = draft.first_due(subscription)
    if path is None:
        draft.rest(subscription)
    else:
        draft.wake(subscription, path)
    return draft.finish()


def _keep_keys(subscriptions: Subscriptions, command: KeepKeys) -> Decided:
    if tuple(key.kid for key in subscriptions.keys) != command.instead_of:
        return (), KeysOutcome(subscriptions.keys)
    return (KeysKept(command.keys),), KeysOutcome(command.keys)


def _is_over(wake: Wake, now: int) -> bool:
    return wake.lease_until is not None and now >= wake.lease_until


def _lease(subscription: Subscription, start: int) -> int:
    return start + subscription.config.lease_ttl * _MILLISECOND
