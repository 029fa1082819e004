"""What the changes of streams mean for subscriptions: the rest of the record that an append makes.

An append to a stream that nobody watches costs one look-up. One to a watched stream marks it as due, and wakes each of its
subscriptions that is idle; of a pull-wake the event on its wake stream is in the same record. So no crash can come between
an append and the wake that it causes. If many watch the stream, the record says only that there is news (`feed.py`).
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Final

import msgspec

from ...errors import BadRequest, Gone
from ..ancestry import locate
from ..limits import MAX_POSITION
from ..media import Kind
from ..offsets import ZERO, Offset, parse
from ..state import (
    Appended,
    Change,
    Created,
    Lookup,
    Removed,
    SoftDeleted,
    StreamState,
    Unreadable,
)
from ..units import MILLISECOND, SECOND
from .changes import CursorsMoved, Missed, News, Wake, WakeChanged
from .state import Subscription, Subscriptions
from .steps import begin_at
from .watching import NOBODY, Watch

MAX_TAKEN: Final = 500  # news that one subscription takes in one record: a few milliseconds
_ANNOUNCE_LATER: Final = SECOND  # until an event is tried again that the store had no room for


def follow(
    subscriptions: Subscriptions,
    states: Lookup,
    changes: Sequence[Change],
    now: int,
    offset: int = 0,
) -> tuple[Change, ...]:
    """Returns the further changes of a record: cursors, wakes, and wake events.

    Args:
        subscriptions: as they are before the record.
        states: the newest states, before the record.
        changes: what has been decided.
        now: microseconds of steady time.
        offset: microseconds by which the wall clock is ahead, for dates.
    """
    first = changes[0]
    if len(changes) == 1 and isinstance(first, Appended):  # as nearly every record
        watch = subscriptions.watch(first.path)
        if watch is NOBODY or _is_no_news(subscriptions, watch, first):
            return ()
    draft = Draft(subscriptions, states, changes, now, offset)
    for change in changes:
        draft.take(change)
    return draft.finish()


def _is_no_news(subscriptions: Subscriptions, watch: Watch, change: Appended) -> bool:
    """Whether everyone who watches a stream has a cursor for it, or will take its news, as far as that is known without a draft."""
    path, feed = change.path, subscriptions.feed
    if path in feed.covered:
        return True
    if len(feed) or len(watch) > subscriptions.crowd:
        return False
    for id_ in watch.ids():
        subscription = subscriptions.by_id[id_]
        cursor = subscription.due.get(path)
        if cursor is None or cursor.incarnation != change.incarnation or subscription.wake is None:
            return False
    return True


class Draft:
    """The part of a record that is about subscriptions.

    Args:
        subscriptions: as they are before the record.
        states: the newest states of streams, before the record.
        changes: what has been decided about streams.
        now: microseconds of steady time.
        offset: microseconds by which the wall clock is ahead, for dates.
        announces: whether events of pull-wakes may be appended; if not, they are put off.
    """

    def __init__(
        self,
        subscriptions: Subscriptions,
        states: Lookup,
        changes: Iterable[Change],
        now: int,
        offset: int,
        announces: bool = True,
    ) -> None:
        self._subscriptions = subscriptions
        self._states = states
        self._now = now
        self._offset = offset
        self._announces = announces
        self._created: dict[str, Created] = {}
        self._tails: dict[str, int] = {}
        self._over: set[str] = set()  # what this record closes or removes takes no event
        for change in changes:
            if isinstance(change, Created):
                self._created[change.path] = change
                self._over.discard(change.path)
            elif isinstance(change, Removed | SoftDeleted):
                self._over.add(change.path)
            elif isinstance(change, Appended):
                self._tails[change.path] = change.start + len(change.data)
                if change.closes:
                    self._over.add(change.path)
        self._cursors: dict[str, dict[str, Offset | None]] = {}
        self._taken: dict[str, tuple[str, int]] = {}
        self._grown: dict[str, int] = {}  # by how many cursors each subscription
        self._all_grown = 0
        self._missed: dict[str, Missed] = {}
        self._full: set[str] = set()  # those that have missed a stream in this record
        self._wakes: dict[str, WakeChanged] = {}
        self._news: dict[str, News] = {}  # by path: the newest news of each stream
        self._all_news: list[News] = []
        self._events: dict[str, list[bytes]] = {}  # by wake stream
        self._appended: list[Appended] = []

    def take(self, change: Change) -> None:
        """Notes what one change of a stream means."""
        if isinstance(change, Appended):
            if change.data:
                self._tell(change.path, change)
        elif isinstance(change, Removed | SoftDeleted):
            self._tell(change.path, None)
        elif isinstance(change, Created):
            for subscription in self._subscriptions.announcing(change.path):
                self._announce_again(subscription)

    def finish(self) -> tuple[Change, ...]:
        """Returns the changes; what they append may be watched too."""
        while self._events:
            path, events = self._events.popitem()
            event = self._append_events(path, b"".join(events))
            if event is not None:
                self._appended.append(event)
                self.take(event)
        touched = dict.fromkeys((*self._cursors, *self._taken))
        cursors = [
            CursorsMoved(id_, tuple(self._cursors.get(id_, {}).items()), self._taken.get(id_))
            for id_ in touched
        ]
        return (
            *self._all_news,
            *self._missed.values(),
            *cursors,
            *self._wakes.values(),
            *self._appended,
        )

    # -- what is so, as far as this record has come ----------------------------

    def wake_of(self, subscription: Subscription) -> Wake | None:
        """Returns the wake in flight."""
        begun = self._wakes.get(subscription.id)
        return subscription.wake if begun is None else begun.wake

    def generation_of(self, subscription: Subscription) -> int:
        """Returns the number of the newest wake."""
        begun = self._wakes.get(subscription.id)
        return subscription.generation if begun is None else begun.generation

    def missed(self, subscription: Subscription) -> tuple[int, int]:
        """Returns since when streams were missed, and since when again, as in `Missed`."""
        now = self._missed.get(subscription.id)
        if now is None:
            return subscription.missed, subscription.missed_again
        return now.since, now.again

    def cursor(self, subscription: Subscription, path: str) -> Offset | None:
        """Returns the cursor of a stream with news, as it is kept; None for the tail."""
        moved = self._cursors.get(subscription.id, {})
        return moved[path] if path in moved else subscription.due.get(path)

    def cursors(self, subscription: Subscription) -> Iterator[tuple[str, Offset]]:
        """Yields the cursors that are kept, in order. What yields them may move them meanwhile."""
        moved, due = self._cursors.get(subscription.id, {}), subscription.due
        fresh = [path for path in moved if path not in due]
        begun = self._wakes.get(subscription.id)
        passed = 0 if begun is None else begun.passed
        for path in chain(islice(due, passed, None), fresh, islice(due, passed)):
            cursor = moved[path] if path in moved else due[path]
            if cursor is not None:
                yield path, cursor

    def all_have_taken(self, news: News) -> bool:
        """Whether everyone who watches a stream has taken its news, with this record."""
        by_id = self._subscriptions.by_id
        return all(
            self._has_taken(by_id[id_]) >= news.number
            for id_ in self._subscriptions.watch(news.path).ids()
        )

    def first_due(self, subscription: Subscription) -> str | None:
        """Returns one of the streams that have news, if any has. One that a repair has put aside has none any more, and one that
        is damaged is passed over."""
        for path, cursor in self.cursors(subscription):
            if path in self._created:
                return path
            try:
                state = self._states.get(path)
            except Unreadable:
                continue
            if state is not None and state.damage is not None:
                continue
            if state is None or standing(cursor, state) is None:
                self.move(subscription, path, None)
            else:
                return path
        return None

    # -- what is done ----------------------------------------------------------

    def settle(self, subscription: Subscription) -> None:
        """Has a subscription take the news that it has not taken yet, a bounded number at once."""
        feed, root = self._subscriptions.feed, self._subscriptions.root
        if not len(feed):
            return
        taken = self._has_taken(subscription)
        if taken >= feed.newest:
            return
        count = 0
        for news in feed.after(taken, root):
            if subscription.id not in self._subscriptions.watch(news.path):
                continue
            self._take_news(subscription, news)
            count += 1
            if count == MAX_TAKEN:
                self._taken[subscription.id] = root, news.number
                return
        self._taken[subscription.id] = root, feed.newest

    def _has_taken(self, subscription: Subscription) -> int:
        begun = self._taken.get(subscription.id)
        return subscription.has_taken(self._subscriptions.root) if begun is None else begun[1]

    def _take_news(self, subscription: Subscription, news: News) -> None:
        if news.cursor is None:
            self.end_of_link(subscription, news.path)
        elif self.cursor(subscription, news.path) is None:
            self._note(subscription, news.path, news.cursor, max(1, news.at))

    def _settle_for(self, subscription: Subscription, path: str) -> None:
        """As `settle`, and takes all news of one stream, so that no older news of it can come after newer."""
        feed = self._subscriptions.feed
        if not len(feed):
            return
        self.settle(subscription)
        taken = self._has_taken(subscription)
        if taken < feed.newest:
            for news in feed.of(path):
                if news.number > taken:
                    self._take_news(subscription, news)

    def wake(
        self, subscription: Subscription, path: str, last: Wake | None = None, passed: int = 0
    ) -> None:
        """Begins a new wake, because of news in the stream at `path`.

        Args:
            subscription: the subscription.
            path: a stream with news.
            last: the wake that has just ended, if one has.
            passed: how many of the first streams with news go to the end of the line.
        """
        generation, wake = self.successor(subscription, last)
        if subscription.config.kind == "webhook" or wake.begun_at > self._now:
            wake = msgspec.structs.replace(wake, next_attempt=wake.begun_at)
        elif not self._announces:
            wake = msgspec.structs.replace(wake, next_attempt=self._now + _ANNOUNCE_LATER)
        else:
            self._announce(subscription, path, generation)
        self.put(subscription, generation, wake, passed)

    def successor(self, subscription: Subscription, last: Wake | None) -> tuple[int, Wake]:
        """Returns the wake after `last`, which neither is in flight yet nor was announced, and its generation."""
        generation = self.generation_of(subscription) + 1
        fruitless = 0 if last is None or last.has_moved else last.fruitless + 1
        at = self._now if last is None else begin_at(self._now, last, fruitless)
        name = self._subscriptions.wake_name(subscription, generation)
        reason = "no_progress" if fruitless > 1 else None
        return generation, Wake(name, begun_at=at, fruitless=fruitless, reason=reason)

    def announce(self, subscription: Subscription, wake: Wake) -> None:
        """Announces a pull-wake that was put off, or ends it if its news is gone."""
        generation, path = self.generation_of(subscription), self.first_due(subscription)
        if path is None:
            self.put(subscription, generation, None)
            return
        later = None
        if self._announces:
            self._announce(subscription, path, generation)
        else:
            later = self._now + _ANNOUNCE_LATER
        self.put(subscription, generation, msgspec.structs.replace(wake, next_attempt=later))

    def put(
        self, subscription: Subscription, generation: int, wake: Wake | None, passed: int = 0
    ) -> None:
        """Makes a wake the one in flight; None ends it."""
        self._wakes[subscription.id] = WakeChanged(subscription.id, generation, wake, passed)

    def move(self, subscription: Subscription, path: str, cursor: Offset | None) -> None:
        """Moves the cursor of one stream; None is its tail."""
        grown = (cursor is not None) - (self.cursor(subscription, path) is not None)
        self._grown[subscription.id] = self._grown.get(subscription.id, 0) + grown
        self._all_grown += grown
        self._cursors.setdefault(subscription.id, {})[path] = cursor

    def set_missed(self, subscription: Subscription, since: int, again: int) -> None:
        """Notes since when streams were missed, and since when again, as in `Missed`."""
        if (since, again) != self.missed(subscription):
            root = self._subscriptions.root
            self._missed[subscription.id] = Missed(subscription.id, since, again, root)

    def recall(self, subscription: Subscription, path: str) -> bool:
        """Gives a stream that may have been missed a cursor at its beginning. Returns False if there is no room for it."""
        watched = subscription.id in self._subscriptions.watch(path)
        if not watched or self.cursor(subscription, path) is not None:
            return True
        beginning = self._beginning(subscription, path)
        if beginning is None:
            return True
        grown = self._grown.get(subscription.id, 0)
        if not self._subscriptions.may_recall(subscription, grown, self._all_grown):
            return False
        self.move(subscription, path, beginning)
        if self.wake_of(subscription) is None:
            self.wake(subscription, path)
        return True

    def end_of_link(self, subscription: Subscription, path: str) -> None:
        """A stream is gone or unlinked, and its news with it. A wake that nobody has taken yet ends if there is no other."""
        if self.cursor(subscription, path) is None:
            return
        self.move(subscription, path, None)
        wake = self.wake_of(subscription)
        untaken = wake is not None and wake.holder is None and wake.lease_until is None
        if untaken and self.first_due(subscription) is None:
            self.put(subscription, self.generation_of(subscription), None)

    # -- inside ----------------------------------------------------------------

    def _tell(self, path: str, change: Appended | None) -> None:
        """Tells all who watch a stream of an append with data, or of its end."""
        watch = self._subscriptions.watch(path)
        if len(watch) > self._subscriptions.crowd:
            self._tell_crowd(path, change)
            return
        for id_ in watch.ids():
            subscription = self._subscriptions.by_id[id_]
            self._settle_for(subscription, path)
            if change is None:
                self.end_of_link(subscription, path)
            elif not self._is_due(subscription, change):
                begun = self._name(path, change.start)
                self._note(subscription, path, begun, max(1, self._now))
            elif self.wake_of(subscription) is None:  # as after its news was damaged
                self.wake(subscription, path)

    def _tell_crowd(self, path: str, change: Appended | None) -> None:
        """Notes news that a crowd takes later."""
        feed, begun = self._subscriptions.feed, self._news.get(path)
        if change is not None and begun is None and path in feed.covered:
            return
        if change is not None and begun is not None and begun.cursor is not None:
            return
        cursor = None if change is None else self._name(path, change.start)
        number = feed.newest + len(self._all_news) + 1
        news = News(path, number, cursor, self._now)
        self._news[path] = news
        self._all_news.append(news)

    def _note(self, subscription: Subscription, path: str, cursor: Offset, at: int) -> None:
        """Notes that a stream has news from an offset on, and wakes the subscription if it is idle. If the subscription is full,
        it misses the stream.

        Args:
            subscription: the subscription.
            path: the stream.
            cursor: where the news begins.
            at: microseconds of steady time of the append, or earlier.
        """
        if self.cursor(subscription, path) is None:
            if self._is_full(subscription):
                self._miss(subscription, at)
                return
            if self.missed(subscription)[0] and path not in self._created:
                cursor = self._beginning(subscription, path) or cursor
        self.move(subscription, path, cursor)
        if self.wake_of(subscription) is None:
            self.wake(subscription, path)

    def _is_full(self, subscription: Subscription) -> bool:
        """Whether there is no room for another cursor. What has missed a stream misses all others of the same record: one of them
        may be the same stream."""
        id_ = subscription.id
        if id_ in self._full:
            return True
        grown = self._grown.get(id_, 0)
        return self._subscriptions.room(subscription, grown, self._all_grown) <= 0

    def _miss(self, subscription: Subscription, at: int) -> None:
        self._full.add(subscription.id)
        since, again = self.missed(subscription)
        if not since:
            self.set_missed(subscription, at, 0)
        else:
            self.set_missed(subscription, min(since, at), min(again or at, at))

    def _beginning(self, subscription: Subscription, path: str) -> Offset | None:
        """Returns where a stream begins, if it has bytes and some of them may have been missed."""
        try:
            state = self._states.get(path)
        except Unreadable:
            return ZERO  # nobody can tell; what is left of it may be repaired
        if state is None or state.soft_deleted or state.tail <= state.base:
            return None
        missed, _ = self.missed(subscription)
        return parse(state.name(state.base)) if state.touched_at >= missed else None

    def _is_due(self, subscription: Subscription, change: Appended) -> bool:
        """Whether the stream of an append has news already. A cursor of an earlier stream at the path counts for nothing."""
        cursor = self.cursor(subscription, change.path)
        if cursor is None or cursor.incarnation == change.incarnation:
            return cursor is not None
        if change.path in self._created:
            return False
        state = self._states.get(change.path)
        return state is not None and _is_of(cursor, state)

    def _announce_again(self, subscription: Subscription) -> None:
        """Tells a new wake stream of a wake that an earlier one, or none, was told of."""
        wake = self.wake_of(subscription)
        if wake is None or wake.holder is not None or wake.next_attempt is not None:
            return
        path = self.first_due(subscription)
        if path is not None:
            self._announce(subscription, path, self.generation_of(subscription))

    def _announce(self, subscription: Subscription, path: str, generation: int) -> None:
        """Appends a pull-wake's event to its wake stream, if there is one that can take it (PROTOCOL 7.2)."""
        wake_stream = subscription.wake_stream
        if wake_stream is not None:
            event = self._event(subscription, path, generation)
            self._events.setdefault(wake_stream, []).append(event)

    def _append_events(self, wake_stream: str, data: bytes) -> Appended | None:
        if wake_stream in self._over:
            return None
        created = self._created.get(wake_stream)
        if created is not None:
            media, incarnation = created.media, created.incarnation
            start = created.origin.position if created.origin is not None else 0
        else:
            state = _readable(self._states, wake_stream)
            if state is None or channel_problem(state, self._now) is not None:
                return None
            media, incarnation, start = state.media, state.incarnation, state.tail
        start = self._tails.get(wake_stream, start)
        if media.kind is not Kind.JSON or start + len(data) > MAX_POSITION:
            return None
        self._tails[wake_stream] = start + len(data)
        return Appended(wake_stream, incarnation, start, data, False, self._now)

    def _event(self, subscription: Subscription, path: str, generation: int) -> bytes:
        event = {
            "type": "wake",
            "subscription_id": subscription.id,
            "stream": self._subscriptions.relative(path),
            "generation": generation,
            "ts": (self._now + self._offset) // MILLISECOND,
        }
        return msgspec.json.encode(event) + b","

    def _name(self, path: str, position: int) -> Offset:
        created = self._created.get(path)
        if created is not None:
            return parse(created.name(position))
        state = self._states.get(path)
        assert state is not None
        return parse(state.name(position))


def standing(cursor: Offset, state: StreamState) -> Offset | None:
    """Returns from where a stream has news for a kept cursor; None if it has none.

    A cursor of an earlier stream at the path counts for nothing: all of the present one is news. One that lies past the tail,
    because a repair or a restored copy has taken bytes away, is at the tail.
    """
    try:
        position = locate(cursor, state.incarnation, state.ancestry, state.tail)
    except Gone:
        cursor, position = parse(state.name(state.base)), state.base
    except BadRequest:
        return None
    return cursor if position < state.tail else None


def _is_of(cursor: Offset, state: StreamState) -> bool:
    """Whether a cursor is one of the present stream, or of its ancestors."""
    try:
        locate(cursor, state.incarnation, state.ancestry, state.tail)
    except (Gone, BadRequest):
        return False
    return True


def channel_problem(state: StreamState | None, now: int) -> str | None:
    """Returns why a wake stream takes no events, in one word; None if it does."""
    if state is None or state.soft_deleted or state.expired(now):
        return "wake_stream_missing"
    if state.damage is not None:
        return "wake_stream_damaged"
    if state.closed:
        return "wake_stream_closed"
    return None if state.media.kind is Kind.JSON else "wake_stream_not_json"


def _readable(states: Lookup, path: str) -> StreamState | None:
    try:
        return states.get(path)
    except Unreadable:
        return None
