"""The feed: appends to streams that a crowd of subscriptions watches, until they are applied to every subscription.

An append that ten thousand subscriptions watch cannot change all of them in its own record, because the record would be too large
and would block the event loop. So the record only adds an entry to the feed. Later records apply the entry to the subscriptions, one
slice of the crowd after another. Outstanding entries are also applied to a subscription before any other command for it, so clients
cannot observe the delay.

A stream is *covered* if each watcher has a cursor for it or an outstanding feed entry. A further append to a covered stream changes
no subscription. Every change that adds a watcher, or that moves a cursor to the tail, must uncover the stream.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Final

import msgspec

from ..offsets import Offset
from .changes import News
from .watching import Watch


class Feed:
    """The feed entries that were not applied to all subscriptions yet.

    Attributes:
        newest: the number of the newest entry so far.
        covered: the paths of covered streams, to which further appends change no subscription.
    """

    def __init__(self) -> None:
        self.newest = 0
        self.covered: set[str] = set()
        self._news: dict[int, News] = {}
        # The number of the entry whose watchers `waiting_for` returns.
        self._asked: int | None = None
        self._waiting: Iterator[str] = iter(())

    def __len__(self) -> int:
        return len(self._news)

    def add(self, news: News) -> None:
        """Adds an entry."""
        self._news[news.number] = news
        self.newest = news.number
        if news.cursor is None:
            self.covered.discard(news.path)
        else:
            self.covered.add(news.path)

    def drop(self, number: int) -> None:
        """Drops an entry that was applied to every watcher."""
        self._news.pop(number, None)

    def get(self, number: int) -> News | None:
        """Returns the entry with a number, or None if it was dropped."""
        return self._news.get(number)

    def of(self, path: str) -> list[News]:
        """Returns the entries of one stream, oldest first."""
        return [news for news in self._news.values() if news.path == path]

    def after(self, number: int, root: str) -> Iterator[News]:
        """Yields the entries of streams below a stream root whose number is greater than `number`, oldest first."""
        prefix = root + "/"
        return (
            news
            for news in self._news.values()
            if news.number > number and news.path.startswith(prefix)
        )

    def rename(self, incarnations: Mapping[int, int]) -> bool:
        """Replaces incarnations in the entries' cursors by new numbers, and returns whether any cursor changed.

        Args:
            incarnations: maps each replaced incarnation to its new number.
        """
        renamed = False
        for number, news in self._news.items():
            cursor = news.cursor
            if cursor is not None and cursor.incarnation in incarnations:
                cursor = Offset(incarnations[cursor.incarnation], cursor.position)
                self._news[number] = News(news.path, number, cursor)
                renamed = True
        return renamed

    def oldest_below(self, root: str) -> News | None:
        """Returns the oldest entry of a stream below a stream root, or None.

        Entries below other roots stay in the feed until their root is used again.
        """
        return next((n for n in self._news.values() if n.path.startswith(root + "/")), None)

    def waiting_for(self, news: News, watch: Watch) -> Iterator[str]:
        """Returns an iterator over the ids of an entry's watchers. It continues where the last call for the same entry stopped."""
        if self._asked != news.number:
            self._asked = news.number
            self._waiting = iter(watch.ids())
        return self._waiting

    def put_back(self, id_: str) -> None:
        """Puts the id of a watcher back, as the next one that `waiting_for` returns."""
        self._waiting = chain((id_,), self._waiting)

    def begin_again(self) -> None:
        """Makes `waiting_for` start again with all watchers, because the entry could not be applied to some of them."""
        self._asked = None

    def uncover(self, paths: Iterable[str]) -> None:
        """Uncovers streams, because a watcher may now have its cursor at their tail."""
        self.covered.difference_update(paths)

    def document(self) -> bytes:
        """Returns the document in which a store keeps the feed."""
        return msgspec.msgpack.encode((self.newest, tuple(self._news.values())))

    def restore(self, document: bytes) -> None:
        """Restores the feed from its document."""
        self.newest, news = _DOCUMENT.decode(document)
        self._news = {each.number: each for each in news}


_DOCUMENT: Final = msgspec.msgpack.Decoder(tuple[int, tuple[News, ...]])
