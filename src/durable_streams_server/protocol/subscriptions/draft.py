"""Collects the changes that one record makes to subscriptions, on top of their states before the record."""

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Final

import msgspec

from ..offsets import ZERO, Offset, parse
from ..state import Appended, Change, Created, Lookup, Removed, SoftDeleted, Unreadable
from ..units import MILLISECOND, SECOND
from .changes import CursorsMoved, Missed, News, Wake, WakeChanged
from .cursors import belongs_to, unread_from
from .state import Subscriptions
from .steps import begin_at
from .subscription import Subscription
from .wake_events import WakeEventAppender, encode_wake_event

#: Maximum number of feed entries that one record applies to one subscription, which takes a few milliseconds.
MAX_TAKEN: Final = 500
#: Delay before the retry of an event for which the store had no room.
_ANNOUNCE_LATER: Final = SECOND


class Draft:
    """The part of a record that changes subscriptions.

    Args:
        subscriptions: the states of subscriptions before the record.
        states: the newest states of streams before the record.
        changes: the record's changes to streams.
        now: microseconds of steady time.
        offset: microseconds by which the wall clock is ahead of steady time, for dates.
        announces: whether events may be appended to wake streams. If not, they are put off.
    """

    def __init__(
        self,
        subscriptions: Subscriptions,
        states: Lookup,
        changes: Sequence[Change],
        now: int,
        offset: int,
        announces: bool = True,
    ) -> None:
        self._subscriptions = subscriptions
        self._states = states
        self._changes = changes
        self._now = now
        self._offset = offset
        self._announces = announces
        self._created = {each.path: each for each in changes if isinstance(each, Created)}
        self._cursors: dict[str, dict[str, Offset | None]] = {}
        self._taken: dict[str, tuple[str, int]] = {}
        self._grown: dict[str, int] = {}  # by subscription: the number of cursors it gains
        self._all_grown = 0  # the number of cursors that all subscriptions gain
        self._missed: dict[str, Missed] = {}
        self._full: set[str] = set()  # subscriptions that have missed a stream in this record
        self._wakes: dict[str, WakeChanged] = {}
        self._news: dict[str, News] = {}  # by path: the newest feed entry of the stream
        self._all_news: list[News] = []
        self._events: dict[
            str, list[bytes]
        ] = {}  # by path of the wake stream: the events to append
        self._appended: list[Appended] = []

    def follow(self, change: Change) -> None:
        """Adds the changes to subscriptions that follow from one change of a stream."""
        if isinstance(change, Appended):
            if change.data:
                self._notify_watchers(change.path, change)
        elif isinstance(change, Removed | SoftDeleted):
            self._notify_watchers(change.path, None)
        elif isinstance(change, Created):
            for subscription in self._subscriptions.announcing(change.path):
                self._announce_again(subscription)

    def finish(self) -> tuple[Change, ...]:
        """Returns all changes to subscriptions, and the appends of wake events.

        Wake streams may have watchers too, so an event can cause another wake.
        """
        if self._events:
            self._append_events()
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

    def _append_events(self) -> None:
        appender = WakeEventAppender(self._states, self._changes, self._created, self._now)
        while self._events:
            path, events = self._events.popitem()
            appended = appender.append(path, b"".join(events))
            if appended is not None:
                self._appended.append(appended)
                self.follow(appended)

    # -- the state with this record's changes so far ---------------------------

    def wake_of(self, subscription: Subscription) -> Wake | None:
        """Returns the wake in flight, or None."""
        begun = self._wakes.get(subscription.id)
        return subscription.wake if begun is None else begun.wake

    def generation_of(self, subscription: Subscription) -> int:
        """Returns the generation of the subscription's newest wake."""
        begun = self._wakes.get(subscription.id)
        return subscription.generation if begun is None else begun.generation

    def missed(self, subscription: Subscription) -> tuple[int, int]:
        """Returns the times `since` and `again` of a subscription's `Missed`, or zeros if it misses no stream."""
        now = self._missed.get(subscription.id)
        if now is None:
            return subscription.missed, subscription.missed_again
        return now.since, now.again

    def cursor(self, subscription: Subscription, path: str) -> Offset | None:
        """Returns the kept cursor of a stream, or None if the cursor is the stream's tail."""
        moved = self._cursors.get(subscription.id, {})
        return moved[path] if path in moved else subscription.due.get(path)

    def cursors(self, subscription: Subscription) -> Iterator[tuple[str, Offset]]:
        """Yields the path and the kept cursor of each stream, in queue order. The caller may move cursors between two items."""
        moved, due = self._cursors.get(subscription.id, {}), subscription.due
        fresh = [path for path in moved if path not in due]
        begun = self._wakes.get(subscription.id)
        passed = 0 if begun is None else begun.passed
        for path in chain(islice(due, passed, None), fresh, islice(due, passed)):
            cursor = moved[path] if path in moved else due[path]
            if cursor is not None:
                yield path, cursor

    def all_have_taken(self, news: News) -> bool:
        """Returns whether a feed entry has been applied to every watcher of its stream, including by this record."""
        by_id = self._subscriptions.by_id
        return all(
            self._newest_taken(by_id[id_]) >= news.number
            for id_ in self._subscriptions.watch(news.path).ids()
        )

    def first_due(self, subscription: Subscription) -> str | None:
        """Returns the path of the first stream with unread bytes, or None if there is none.

        Damaged streams are skipped. Cursors of streams that have no unread bytes any more are dropped, for example after a repair
        has removed a stream.
        """
        for path, cursor in self.cursors(subscription):
            if path in self._created:
                return path
            try:
                state = self._states.get(path)
            except Unreadable:
                continue
            if state is not None and state.damage is not None:
                continue
            if state is None or unread_from(cursor, state) is None:
                self.set_cursor(subscription, path, None)
            else:
                return path
        return None

    # -- entries of the feed ----------------------------------------------------

    def take_news(self, subscription: Subscription) -> None:
        """Applies outstanding feed entries to a subscription, at most `MAX_TAKEN` of them."""
        feed, root = self._subscriptions.feed, self._subscriptions.root
        if not len(feed):
            return
        taken = self._newest_taken(subscription)
        if taken >= feed.newest:
            return
        count = 0
        for news in feed.after(taken, root):
            if subscription.id not in self._subscriptions.watch(news.path):
                continue
            self._apply_news(subscription, news)
            count += 1
            if count == MAX_TAKEN:
                self._taken[subscription.id] = root, news.number
                return
        self._taken[subscription.id] = root, feed.newest

    def _newest_taken(self, subscription: Subscription) -> int:
        """Returns the number of the newest feed entry that was applied to a subscription."""
        begun = self._taken.get(subscription.id)
        return subscription.has_taken(self._subscriptions.root) if begun is None else begun[1]

    def _apply_news(self, subscription: Subscription, news: News) -> None:
        if news.cursor is None:
            self.drop_cursor(subscription, news.path)
        elif self.cursor(subscription, news.path) is None:
            self._add_unread(subscription, news.path, news.cursor, max(1, news.at))

    def _take_news_of(self, subscription: Subscription, path: str) -> None:
        """Applies outstanding feed entries to a subscription, and in any case all entries of one stream.

        The caller then applies a newer append to that stream, which must come after all older ones.
        """
        feed = self._subscriptions.feed
        if not len(feed):
            return
        self.take_news(subscription)
        taken = self._newest_taken(subscription)
        if taken < feed.newest:
            for news in feed.of(path):
                if news.number > taken:
                    self._apply_news(subscription, news)

    # -- changes to wakes ------------------------------------------------------

    def begin_wake(
        self, subscription: Subscription, path: str, last: Wake | None = None, passed: int = 0
    ) -> None:
        """Begins a new wake, because the stream at `path` has unread bytes.

        Args:
            subscription: the subscription.
            path: the path of a stream with unread bytes.
            last: the wake that has just ended, or None.
            passed: the number of streams at the front of the queue that move to its end.
        """
        generation, wake = self.next_wake(subscription, last)
        if subscription.config.kind == "webhook" or wake.begun_at > self._now:
            wake = msgspec.structs.replace(wake, next_attempt=wake.begun_at)
        elif not self._announces:
            wake = msgspec.structs.replace(wake, next_attempt=self._now + _ANNOUNCE_LATER)
        else:
            self._queue_event(subscription, path, generation)
        self.set_wake(subscription, generation, wake, passed)

    def next_wake(self, subscription: Subscription, last: Wake | None) -> tuple[int, Wake]:
        """Returns the generation of the wake after `last`, and that wake. It is neither in flight nor announced yet."""
        generation = self.generation_of(subscription) + 1
        fruitless = 0 if last is None or last.has_moved else last.fruitless + 1
        at = self._now if last is None else begin_at(self._now, last, fruitless)
        name = self._subscriptions.wake_name(subscription, generation)
        reason = "no_progress" if fruitless > 1 else None
        return generation, Wake(name, begun_at=at, fruitless=fruitless, reason=reason)

    def announce(self, subscription: Subscription, wake: Wake) -> None:
        """Announces a pull-wake that was put off, or ends the wake if no stream has unread bytes any more."""
        generation, path = self.generation_of(subscription), self.first_due(subscription)
        if path is None:
            self.set_wake(subscription, generation, None)
            return
        later = None
        if self._announces:
            self._queue_event(subscription, path, generation)
        else:
            later = self._now + _ANNOUNCE_LATER
        self.set_wake(subscription, generation, msgspec.structs.replace(wake, next_attempt=later))

    def set_wake(
        self, subscription: Subscription, generation: int, wake: Wake | None, passed: int = 0
    ) -> None:
        """Makes `wake` the wake in flight, or ends the wake in flight if `wake` is None."""
        self._wakes[subscription.id] = WakeChanged(subscription.id, generation, wake, passed)

    def _announce_again(self, subscription: Subscription) -> None:
        """Announces the wake in flight on a wake stream that has just been created."""
        wake = self.wake_of(subscription)
        if wake is None or wake.holder is not None or wake.next_attempt is not None:
            return
        path = self.first_due(subscription)
        if path is not None:
            self._queue_event(subscription, path, self.generation_of(subscription))

    def _queue_event(self, subscription: Subscription, path: str, generation: int) -> None:
        """Queues a pull-wake's event, to be appended to its wake stream when the draft is finished (PROTOCOL 7.2)."""
        wake_stream = subscription.wake_stream
        if wake_stream is not None:
            stream = self._subscriptions.relative(path)
            time = (self._now + self._offset) // MILLISECOND
            event = encode_wake_event(subscription.id, stream, generation, time)
            self._events.setdefault(wake_stream, []).append(event)

    # -- changes to cursors ----------------------------------------------------

    def set_cursor(self, subscription: Subscription, path: str, cursor: Offset | None) -> None:
        """Moves the cursor of one stream. None stands for the stream's tail."""
        grown = (cursor is not None) - (self.cursor(subscription, path) is not None)
        self._grown[subscription.id] = self._grown.get(subscription.id, 0) + grown
        self._all_grown += grown
        self._cursors.setdefault(subscription.id, {})[path] = cursor

    def drop_cursor(self, subscription: Subscription, path: str) -> None:
        """Drops the cursor of a stream that is gone or unlinked.

        If no other stream has unread bytes, this also ends the wake in flight, unless a worker has claimed it or a webhook has
        accepted it.
        """
        if self.cursor(subscription, path) is None:
            return
        self.set_cursor(subscription, path, None)
        wake = self.wake_of(subscription)
        untaken = wake is not None and wake.holder is None and wake.lease_until is None
        if untaken and self.first_due(subscription) is None:
            self.set_wake(subscription, self.generation_of(subscription), None)

    def set_missed(self, subscription: Subscription, since: int, again: int) -> None:
        """Sets the times `since` and `again` of a subscription's `Missed`."""
        if (since, again) != self.missed(subscription):
            root = self._subscriptions.root
            self._missed[subscription.id] = Missed(subscription.id, since, again, root)

    def recall(self, subscription: Subscription, path: str) -> bool:
        """Gives a stream that may have been missed a cursor at its beginning. Returns False if there is no room for the cursor."""
        watched = subscription.id in self._subscriptions.watch(path)
        if not watched or self.cursor(subscription, path) is not None:
            return True
        beginning = self._missed_beginning(subscription, path)
        if beginning is None:
            return True
        grown = self._grown.get(subscription.id, 0)
        if not self._subscriptions.may_recall(subscription, grown, self._all_grown):
            return False
        self.set_cursor(subscription, path, beginning)
        if self.wake_of(subscription) is None:
            self.begin_wake(subscription, path)
        return True

    # -- changes of streams ----------------------------------------------------

    def _notify_watchers(self, path: str, change: Appended | None) -> None:
        """Applies an append with data to every watcher of a stream, or the end of the stream if `change` is None."""
        watch = self._subscriptions.watch(path)
        if len(watch) > self._subscriptions.crowd:
            self._add_news(path, change)
            return
        for id_ in watch.ids():
            subscription = self._subscriptions.by_id[id_]
            self._take_news_of(subscription, path)
            if change is None:
                self.drop_cursor(subscription, path)
            elif not self._is_unread(subscription, change):
                begun = self._offset_at(path, change.start)
                self._add_unread(subscription, path, begun, max(1, self._now))
            elif self.wake_of(subscription) is None:  # as after damage to the unread bytes
                self.begin_wake(subscription, path)

    def _add_news(self, path: str, change: Appended | None) -> None:
        """Adds an entry to the feed, unless the stream is covered already."""
        feed, begun = self._subscriptions.feed, self._news.get(path)
        if change is not None and begun is None and path in feed.covered:
            return
        if change is not None and begun is not None and begun.cursor is not None:
            return
        cursor = None if change is None else self._offset_at(path, change.start)
        number = feed.newest + len(self._all_news) + 1
        news = News(path, number, cursor, self._now)
        self._news[path] = news
        self._all_news.append(news)

    def _add_unread(self, subscription: Subscription, path: str, cursor: Offset, at: int) -> None:
        """Gives a stream a cursor, and wakes the subscription if it is idle. A full subscription misses the stream instead.

        Args:
            subscription: the subscription.
            path: the path of the stream.
            cursor: the offset at which the unread bytes begin.
            at: the time of the append or an earlier time, in microseconds of steady time.
        """
        if self.cursor(subscription, path) is None:
            if self._is_full(subscription):
                self._miss(subscription, at)
                return
            if self.missed(subscription)[0] and path not in self._created:
                cursor = self._missed_beginning(subscription, path) or cursor
        self.set_cursor(subscription, path, cursor)
        if self.wake_of(subscription) is None:
            self.begin_wake(subscription, path)

    def _is_full(self, subscription: Subscription) -> bool:
        """Returns whether a subscription has no room for another cursor.

        A subscription that has missed a stream in this record counts as full until the record ends, because a later change may
        concern the same stream.
        """
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

    def _missed_beginning(self, subscription: Subscription, path: str) -> Offset | None:
        """Returns the offset of a stream's first byte, or None if the subscription cannot have missed any of its bytes."""
        try:
            state = self._states.get(path)
        except Unreadable:
            return ZERO  # the contents are unknown, and a repair may restore some bytes
        if state is None or state.soft_deleted or state.tail <= state.base:
            return None
        missed, _ = self.missed(subscription)
        return parse(state.name(state.base)) if state.touched_at >= missed else None

    def _is_unread(self, subscription: Subscription, change: Appended) -> bool:
        """Returns whether the stream of an append already has a cursor. A cursor of an earlier stream at the path does not count."""
        cursor = self.cursor(subscription, change.path)
        if cursor is None or cursor.incarnation == change.incarnation:
            return cursor is not None
        if change.path in self._created:
            return False
        state = self._states.get(change.path)
        return state is not None and belongs_to(cursor, state)

    def _offset_at(self, path: str, position: int) -> Offset:
        """Returns the offset of a position in a stream, which this record may have created."""
        created = self._created.get(path)
        if created is not None:
            return parse(created.name(position))
        state = self._states.get(path)
        assert state is not None
        return parse(state.name(position))
