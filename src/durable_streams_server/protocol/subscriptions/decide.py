"""The rules of subscriptions: (subscriptions, states, command, now) -> changes and outcome (PROTOCOL 6, 7).

A wake goes through these states; each arrow is one record:

    idle --append--> in flight --claim, or delivery taken--> leased --done, release, lapse--> idle, or the next wake
                     in flight --delivery failed--> in flight, later

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
from ..limits import RETRY_SOON
from ..media import Kind
from ..offsets import Offset, parse
from ..signing import Key
from ..state import Change, Lookup, StreamState, Unreadable
from ..units import MILLISECOND
from .changes import KeysKept, LinkedStream, NewsTaken, Relinked, Subscribed, Unsubscribed, Wake
from .commands import (
    MAX_LINKS,
    Acknowledge,
    Claim,
    Deliver,
    Delivered,
    KeepKeys,
    Link,
    Look,
    Recall,
    Release,
    Subscribe,
    SubscriptionCommand,
    TakeNews,
    Tend,
    Undelivered,
    Unlink,
)
from .state import Subscription, Subscriptions
from .steps import must_be_renamed
from .views import MAX_LISTED, View, brief_view, view_of
from .wakes import Draft, standing

MAX_SUBSCRIPTIONS: Final = 100_000  # each costs about 1 KiB of memory


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


class RecallOutcome(msgspec.Struct, frozen=True):
    """A step of a pass is made.

    Attributes:
        count: how many of its paths have been dealt with; there was no room for the others.
        missed: whether streams are still missed, so that the pass goes on, or another one must follow.
    """

    count: int
    missed: bool


class Done(msgspec.Struct, frozen=True):
    """What was asked for is so."""


class KeysOutcome(msgspec.Struct, frozen=True):
    """The keys that are kept now; those asked for, or the ones that were in their way."""

    keys: tuple[Key, ...]


SubscriptionOutcome = SubscribeOutcome | View | AckOutcome | RecallOutcome | Done | KeysOutcome

Decided = tuple[tuple[Change, ...], SubscriptionOutcome]


def decide_subscription(
    subscriptions: Subscriptions,
    states: Lookup,
    command: SubscriptionCommand,
    now: int,
    incarnation: int,
    offset: int = 0,
    announces: bool = True,
) -> Decided:
    """Decides a command.

    Args:
        subscriptions: the newest states of subscriptions.
        states: the newest states of streams.
        command: what is asked for.
        now: microseconds of steady time.
        incarnation: the number that a new subscription would get; every older one is smaller.
        offset: microseconds by which the wall clock is ahead, for dates.
        announces: whether events of pull-wakes may be appended; if not, they are put off.

    Raises:
        StreamError: when the command is refused; nothing changes then.
    """
    if isinstance(command, KeepKeys):
        return _keep_keys(subscriptions, command)
    draft = Draft(subscriptions, states, (), now, offset, announces)
    if isinstance(command, TakeNews):
        return _take_news(draft, subscriptions, command)
    desk = _Desk(subscriptions, states, draft, now)
    if isinstance(command, Subscribe):
        return desk.subscribe(command, incarnation, offset)
    if isinstance(command, Deliver | Delivered | Undelivered):
        return desk.deliver(command)
    if isinstance(command, Acknowledge | Release):
        return desk.work(command)
    subscription = desk.require(command.id)
    if isinstance(command, Claim):
        return desk.claim(subscription, command)
    if isinstance(command, Link):
        return desk.link(subscription, command)
    if isinstance(command, Unlink):
        return desk.unlink(subscription, command)
    if isinstance(command, Look):
        return (), view_of(draft, subscription, states, now)
    if isinstance(command, Tend):
        return desk.tend(subscription)
    if isinstance(command, Recall):
        return desk.recall(subscription, command)
    return (Unsubscribed(subscription.id, subscription.incarnation),), Done()


def is_stale(subscriptions: Subscriptions, command: Acknowledge | Release, now: int) -> bool:
    """Whether a request would be refused for the wake that it names."""
    subscription = subscriptions.get(command.grant.id)
    if subscription is None:
        return True
    try:
        _fence(subscription, subscription.wake, subscription.generation, command, now)
    except StreamError:
        return True
    return False


class _Desk:
    """Decides commands about one subscription. Whatever is asked of it, it takes the news of the feed first."""

    def __init__(
        self, subscriptions: Subscriptions, states: Lookup, draft: Draft, now: int
    ) -> None:
        self._subscriptions = subscriptions
        self._states = states
        self._draft = draft
        self._now = now

    def require(self, id_: str) -> Subscription:
        """Returns a subscription, which has taken its news.

        Raises:
            NotFound: SUBSCRIPTION_NOT_FOUND.
        """
        subscription = self._subscriptions.get(id_)
        if subscription is None:
            raise NotFound("there is no such subscription", "SUBSCRIPTION_NOT_FOUND")
        self._draft.settle(subscription)
        return subscription

    # -- what owners ask -------------------------------------------------------

    def subscribe(self, command: Subscribe, incarnation: int, offset: int) -> Decided:
        """Begins a subscription, or confirms the one that is there."""
        subscriptions, draft, config = self._subscriptions, self._draft, command.config
        existing = subscriptions.get(command.id)
        if existing is not None:
            if existing.config.digest != config.digest:
                raise Conflict(
                    "a subscription with another configuration has this id", "SUBSCRIPTION_EXISTS"
                )
            draft.settle(existing)
            view = view_of(draft, existing, self._states, self._now)
            return (), SubscribeOutcome(view, False)
        if len(subscriptions) >= MAX_SUBSCRIPTIONS:
            raise TooManyRequests(
                "there are too many subscriptions", "TOO_MANY_SUBSCRIPTIONS", retry_after=RETRY_SOON
            )
        change = Subscribed(command.id, incarnation, config, self._now + offset)
        fresh = Subscription(command.id, incarnation, config, change.at, subscriptions.root)
        ended = () if fresh.wake_stream is None else self._begin_channel(fresh.wake_stream)
        view = view_of(draft, fresh, self._states, self._now)
        return (change, *draft.finish(), *ended), SubscribeOutcome(view, True)

    def _begin_channel(self, path: str) -> tuple[Change, ...]:
        """Makes a stream a wake stream: no pattern links it any more, or its events would be news that causes events. Returns what
        else this changes.

        Raises:
            BadRequest: INVALID_WAKE_STREAM, if it is there and not one of JSON.
        """
        channel = _readable(self._states, path)
        if channel is not None and channel.media.kind is not Kind.JSON:
            raise BadRequest("a wake stream must be one of JSON", "INVALID_WAKE_STREAM")
        subscriptions, draft = self._subscriptions, self._draft
        pending = subscriptions.feed.of(path)
        for other in subscriptions.watchers(path):
            if path not in other.streams:
                draft.end_of_link(other, path)
            elif pending:
                draft.settle(other)  # who names the stream keeps its news
        return tuple(NewsTaken(news.number) for news in pending)

    def link(self, subscription: Subscription, command: Link) -> Decided:
        """Adds explicit links, at the streams' tails."""
        if subscription.wake_stream in command.paths:
            raise BadRequest(
                "a wake stream cannot be linked to its own subscription", "INVALID_SUBSCRIPTION"
            )
        added = tuple(path for path in command.paths if path not in subscription.streams)
        if len(subscription.streams) + len(added) > MAX_LINKS:
            raise TooManyRequests(
                "the subscription has too many links", "TOO_MANY_LINKS", retry_after=RETRY_SOON
            )
        if not added:
            return (), Done()
        relative = tuple(map(self._subscriptions.relative, added))
        return (*self._draft.finish(), Relinked(subscription.id, relative, ())), Done()

    def unlink(self, subscription: Subscription, command: Unlink) -> Decided:
        """Removes an explicit link, and the stream's news unless the pattern links it too."""
        path = command.path
        if path not in subscription.streams:
            return (), Done()
        if not self._subscriptions.matches(subscription, path):
            self._draft.end_of_link(subscription, path)
        relative = self._subscriptions.relative(path)
        return (*self._draft.finish(), Relinked(subscription.id, (), (relative,))), Done()

    # -- what workers ask ------------------------------------------------------

    def claim(self, subscription: Subscription, command: Claim) -> Decided:
        """Gives the wake in flight to a worker (PROTOCOL 7.2)."""
        draft = self._draft
        if subscription.config.kind != "pull-wake":
            raise BadRequest("only a pull-wake subscription can be claimed", "NOT_PULL_WAKE")
        wake, generation = draft.wake_of(subscription), draft.generation_of(subscription)
        if wake is None:
            raise Conflict("there is nothing to claim", "NOTHING_TO_CLAIM")
        passed = 0
        if wake.holder is not None:
            if not _is_over(wake, self._now):
                raise AlreadyClaimed(
                    "another worker holds the lease",
                    details={"current_holder": wake.holder, "generation": generation},
                )
            if draft.first_due(subscription) is None:
                raise Conflict("there is nothing to claim", "NOTHING_TO_CLAIM")
            passed = _passed(subscription, wake)
            generation, wake = draft.successor(subscription, wake)
        elif must_be_renamed(wake, self._subscriptions.opening):
            generation, wake = self._renamed(subscription, wake)
        lease = _lease(subscription, self._now)
        held = msgspec.structs.replace(
            wake, holder=command.worker, lease_until=lease, next_attempt=None
        )
        draft.put(subscription, generation, held, passed)
        view = view_of(draft, subscription, self._states, self._now)
        return draft.finish(), view

    def work(self, command: Acknowledge | Release) -> Decided:
        """Moves cursors, keeps the wake, or gives it back (PROTOCOL 7.1, 7.2)."""
        draft = self._draft
        subscription = self.require(command.grant.id)
        generation = draft.generation_of(subscription)
        wake = _fence(subscription, draft.wake_of(subscription), generation, command, self._now)
        if isinstance(command, Release):
            self._end(subscription, wake)
            return draft.finish(), Done()
        wake = self._move(subscription, wake, command.acks)
        if command.done:
            next_wake = self._end(subscription, wake)
            return draft.finish(), AckOutcome(next_wake)
        held = msgspec.structs.replace(
            wake,
            lease_until=_lease(subscription, self._now),
            next_attempt=None,
            attempts=0,
            told=None,
            reason="no_progress" if wake.fruitless > 1 and not wake.has_moved else None,
        )
        draft.put(subscription, generation, held)
        return draft.finish(), AckOutcome(False)

    def _move(
        self, subscription: Subscription, wake: Wake, acks: tuple[tuple[str, Offset], ...]
    ) -> Wake:
        """Moves the cursors of streams with news, never back. Returns the wake, which counts what has moved."""
        cleared, has_moved = wake.cleared, wake.has_moved
        for path, offset in acks:
            cursor, state = self._draft.cursor(subscription, path), _readable(self._states, path)
            if cursor is None or state is None:
                continue
            try:
                position = locate(offset, state.incarnation, state.ancestry, state.tail)
            except Gone:
                continue  # of an earlier stream at this path
            here = standing(cursor, state)
            if here is not None and position > here.position:
                has_moved = True
                cleared += position == state.tail
                self._draft.move(subscription, path, None if position == state.tail else offset)
        return msgspec.structs.replace(wake, cleared=cleared, has_moved=has_moved)

    def _end(self, subscription: Subscription, wake: Wake) -> bool:
        """Ends the wake in flight. If there is news left, begins the next one and returns True (PROTOCOL 7.1 to 7.3)."""
        path = self._draft.first_due(subscription)
        if path is None:
            self._draft.put(subscription, self._draft.generation_of(subscription), None)
            return False
        self._draft.wake(subscription, path, wake, _passed(subscription, wake))
        return True

    # -- what the server does by itself ----------------------------------------

    def tend(self, subscription: Subscription) -> Decided:
        """Does what time has brought."""
        draft, wake = self._draft, self._draft.wake_of(subscription)
        if wake is None:
            path = draft.first_due(subscription)
            if path is not None:
                draft.wake(subscription, path)
        elif _is_over(wake, self._now):
            self._end(subscription, wake)
        elif _is_due(wake, self._now):
            if subscription.config.kind == "pull-wake":
                draft.announce(subscription, wake)
            elif must_be_renamed(wake, self._subscriptions.opening):
                draft.put(subscription, *self._renamed(subscription, wake))
        return draft.finish(), brief_view(draft, subscription)

    def recall(self, subscription: Subscription, command: Recall) -> Decided:
        """Makes one step of a pass."""
        draft, count = self._draft, 0
        since, again = draft.missed(subscription)
        if subscription.incarnation != command.incarnation or not since:
            return draft.finish(), RecallOutcome(len(command.paths), False)
        for path in command.paths:
            if not draft.recall(subscription, path):
                break
            count += 1
        if command.begins:
            draft.set_missed(subscription, since, 0)
        elif command.ends and count == len(command.paths):
            draft.set_missed(subscription, again, 0)
        return draft.finish(), RecallOutcome(count, draft.missed(subscription)[0] > 0)

    def deliver(self, command: Deliver | Delivered | Undelivered) -> Decided:
        """Begins or ends a delivery. It may come late: one about a wake that is over does nothing."""
        grant = command.grant
        subscription = self._subscriptions.get(grant.id)
        if subscription is None:
            return (), Done()
        self._draft.settle(subscription)
        wake = self._draft.wake_of(subscription)
        if (
            wake is None
            or subscription.incarnation != grant.incarnation
            or self._draft.generation_of(subscription) != grant.generation
            or grant.wake_id not in ("", wake.wake_id)
        ):
            return (), Done()
        if isinstance(command, Deliver):
            return self._begin_delivery(subscription, wake)
        if isinstance(command, Delivered):
            self._taken(subscription, wake, command)
        else:
            self._failed(subscription, wake, command)
        return self._draft.finish(), Done()

    def _begin_delivery(self, subscription: Subscription, wake: Wake) -> Decided:
        draft, generation = self._draft, self._draft.generation_of(subscription)
        if not _is_due(wake, self._now):
            return (), Done()
        if wake.told is not None and all(map(self._is_there, wake.told)):
            view = brief_view(draft, subscription)
            return draft.finish(), msgspec.structs.replace(view, streams=wake.told)
        if draft.first_due(subscription) is None:
            draft.put(subscription, generation, None)
            return draft.finish(), Done()
        if (
            wake.told is not None
        ):  # a stream that it told of has ended, so what is told next is another wake
            generation, wake = self._renamed(subscription, wake)
            draft.put(subscription, generation, msgspec.structs.replace(wake, told=None))
            return draft.finish(), Done()
        return draft.finish(), view_of(draft, subscription, self._states, self._now)

    def _is_there(self, told: LinkedStream) -> bool:
        """Whether a stream that was told of can still be read up to the tail that was told."""
        state = _readable(self._states, told.path)
        if told.acked == told.tail:
            return True
        if state is None or state.soft_deleted or state.damage is not None:
            return False
        try:
            locate(parse(told.tail), state.incarnation, state.ancestry, state.tail)
        except StreamError:
            return False
        return True

    def _taken(self, subscription: Subscription, wake: Wake, command: Delivered) -> None:
        if wake.next_attempt is None:
            return  # a heartbeat has come before the answer
        lease = max(wake.lease_until or 0, _lease(subscription, bounded(command.sent_at)))
        problem = command.problem
        taken = msgspec.structs.replace(
            wake,
            next_attempt=None,
            lease_until=lease,
            attempts=0 if problem is None else wake.attempts + 1,
            told=None,
            reason=problem or ("no_progress" if wake.fruitless > 1 else None),
        )
        self._draft.put(subscription, self._draft.generation_of(subscription), taken)

    def _failed(self, subscription: Subscription, wake: Wake, command: Undelivered) -> None:
        """Puts the wake off. It keeps its name only if the next attempt can tell the same."""
        generation, told = self._draft.generation_of(subscription), command.told
        attempts = wake.attempts + 1
        if self._draft.first_due(subscription) is None:
            self._draft.put(subscription, generation, None)
            return
        if told is None or wake.has_moved:
            told = None
            generation, wake = self._renamed(subscription, wake)
        put_off = msgspec.structs.replace(
            wake,
            holder=None,
            lease_until=None,
            next_attempt=bounded(command.retry_at),
            attempts=attempts,
            told=told,
            reason=command.problem,
        )
        self._draft.put(subscription, generation, put_off)

    def _renamed(self, subscription: Subscription, wake: Wake) -> tuple[int, Wake]:
        """Returns a wake under the name of the next generation."""
        generation = self._draft.generation_of(subscription) + 1
        name = self._subscriptions.wake_name(subscription, generation)
        return generation, msgspec.structs.replace(wake, wake_id=name)


def _fence(
    subscription: Subscription,
    wake: Wake | None,
    generation: int,
    command: Acknowledge | Release,
    now: int,
) -> Wake:
    """Returns the wake in flight, if it is the one that a request names wholly (PROTOCOL 7.3)."""
    grant = command.grant
    is_pull = subscription.config.kind == "pull-wake"
    if (
        wake is None
        or _is_over(wake, now)
        or (is_pull and wake.holder is None)
        or grant.incarnation != subscription.incarnation
        or grant.generation != generation
        or command.generation != generation
        or command.wake_id != wake.wake_id
        or grant.wake_id not in ("", wake.wake_id)
    ):
        raise Fenced("this wake is not the subscription's present one")
    return wake


def _take_news(draft: Draft, subscriptions: Subscriptions, command: TakeNews) -> Decided:
    for id_ in command.ids:
        subscription = subscriptions.get(id_)
        if subscription is not None:
            draft.settle(subscription)
    changes = draft.finish()
    news = None if command.number is None else subscriptions.feed.get(command.number)
    if news is None or not draft.all_have_taken(news):
        return changes, Done()
    return (*changes, NewsTaken(news.number)), Done()


def _keep_keys(subscriptions: Subscriptions, command: KeepKeys) -> Decided:
    if tuple(key.kid for key in subscriptions.keys) != command.instead_of:
        return (), KeysOutcome(subscriptions.keys)
    return (KeysKept(command.keys),), KeysOutcome(command.keys)


def _passed(subscription: Subscription, wake: Wake) -> int:
    """Returns how many streams a wake has told of in vain, if there are others that wait to be told of."""
    return max(0, MAX_LISTED - wake.cleared) if len(subscription.due) > MAX_LISTED else 0


def _is_over(wake: Wake, now: int) -> bool:
    return wake.lease_until is not None and now >= wake.lease_until


def _is_due(wake: Wake, now: int) -> bool:
    return wake.next_attempt is not None and now >= wake.next_attempt


def _lease(subscription: Subscription, start: int) -> int:
    return start + subscription.config.lease_ttl * MILLISECOND


def _readable(states: Lookup, path: str) -> StreamState | None:
    """Returns the newest state at a path; None also for one that is damaged."""
    try:
        return states.get(path)
    except Unreadable:
        return None
