"""Keeps the news of streams that a crowd of subscriptions watches, until each subscription has taken it.

An append that ten thousand subscriptions watch cannot change all of them in its own record, because the record would be too large
and would block the event loop. So the record only adds news to the feed, and the crowd takes the news in slices, in later records.
Before any other command for a subscription, the subscription takes its news, so clients cannot observe the delay.

A stream is *covered* if each watcher has a cursor for it or will take its news. A further append to a covered stream changes no
subscription. Every change that adds a watcher, or that moves a cursor to the tail, must uncover the stream.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Final

import msgspec

from ..offsets import Offset
from .changes import News
from .watching import Watch


class Feed:
    """The news that some watchers have not taken yet.

    Attributes:
        newest: the number of the newest news so far.
        covered: the paths of covered streams.
    """

    def __init__(self) -> None:
        self.newest = 0
        self.covered: set[str] = set()
        self._news: dict[int, News] = {}
        # The number of the news whose watchers `waiting_for` returns.
        self._asked: int | None = None
        self._waiting: Iterator[str] = iter(())

    def __len__(self) -> int:
        return len(self._news)

    def add(self, news: News) -> None:
        """Adds news."""
        self._news[news.number] = news
        self.newest = news.number
        if news.cursor is None:
            self.covered.discard(news.path)
        else:
            self.covered.add(news.path)

    def drop(self, number: int) -> None:
        """Drops news that every watcher has taken."""
        self._news.pop(number, None)

    def get(self, number: int) -> News | None:
        """Returns the news with a number, or None if it was dropped."""
        return self._news.get(number)

    def of(self, path: str) -> list[News]:
        """Returns all news of one stream, oldest first."""
        return [news for news in self._news.values() if news.path == path]

    def after(self, number: int, root: str) -> Iterator[News]:
        """Yields the news with greater numbers than `number` below a stream root, oldest first."""
        prefix = root + "/"
        return (
            news
            for news in self._news.values()
            if news.number > number and news.path.startswith(prefix)
        )

    def rename(self, incarnations: Mapping[int, int]) -> bool:
        """Replaces incarnations in cursors by their new numbers, and returns whether any cursor changed."""
        renamed = False
        for number, news in self._news.items():
            cursor = news.cursor
            if cursor is not None and cursor.incarnation in incarnations:
                cursor = Offset(incarnations[cursor.incarnation], cursor.position)
                self._news[number] = News(news.path, number, cursor)
                renamed = True
        return renamed

    def oldest_below(self, root: str) -> News | None:
        """Returns the oldest news below a stream root, or None. News of other streams stays until their root returns."""
        return next((n for n in self._news.values() if n.path.startswith(root + "/")), None)

    def waiting_for(self, news: News, watch: Watch) -> Iterator[str]:
        """Returns an iterator over the ids of watchers. It continues where the last call for the same news stopped."""
        if self._asked != news.number:
            self._asked = news.number
            self._waiting = iter(watch.ids())
        return self._waiting

    def put_back(self, id_: str) -> None:
        """Puts the id of a watcher back, as the next one that `waiting_for` returns."""
        self._waiting = chain((id_,), self._waiting)

    def begin_again(self) -> None:
        """Makes `waiting_for` start again with all watchers, because some of them could not take the news."""
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
