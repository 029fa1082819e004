"""Finds the changes to subscriptions that follow from a record's changes to streams: cursors, wakes and wake events.

They are added to the same record, so no crash can come between an append and the wake that it causes. An append to a
stream that nobody watches costs one look-up. If a crowd of subscriptions watches the stream, the record only adds an entry
to the feed (`feed.py`).
"""

from collections.abc import Sequence

from ..state import Appended, Change, Lookup
from .draft import Draft
from .state import Subscriptions
from .watching import NOBODY, Watch


def follow(
    subscriptions: Subscriptions,
    states: Lookup,
    changes: Sequence[Change],
    now: int,
    offset: int = 0,
) -> tuple[Change, ...]:
    """Returns the changes to subscriptions that follow from a record's changes to streams.

    Args:
        subscriptions: the states of subscriptions before the record.
        states: the newest states of streams before the record.
        changes: the record's changes to streams.
        now: microseconds of steady time.
        offset: microseconds by which the wall clock is ahead of steady time, for dates.
    """
    first = changes[0]
    if len(changes) == 1 and isinstance(first, Appended):  # nearly every record is a single append
        watch = subscriptions.watch(first.path)
        if watch is NOBODY or _is_no_news(subscriptions, watch, first):
            return ()
    draft = Draft(subscriptions, states, changes, now, offset)
    for change in changes:
        draft.follow(change)
    return draft.finish()


def _is_no_news(subscriptions: Subscriptions, watch: Watch, change: Appended) -> bool:
    """Returns True if an append certainly changes no subscription. After False, a draft must find out.

    An append changes no subscription if every watcher of the stream has a cursor for it, or an outstanding feed entry.
    """
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
