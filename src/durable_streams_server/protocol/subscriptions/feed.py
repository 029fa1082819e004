"""News of streams that a crowd of subscriptions watches: each of them takes it in a record of its own, a little later.

An append that ten thousand subscriptions match cannot change all of them in its own record: the record would be too large, and
the loop would stand still. So the record says only that there is news, and the crowd takes it in slices. Whoever has a command
for a subscription in the meantime has it take its news first, so nobody can see that it has not come yet.

A stream is *covered* if everyone who watches it has a cursor for it, or will take its news: further appends to it mean nothing new.
Whatever changes who watches a stream, or brings a cursor to its tail, must uncover it.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Final

import msgspec

from ..offsets import Offset
from .changes import News
from .watching import Watch


class Feed:
    """The news that not all have taken.

    Attributes:
        newest: the number of the newest news there has been.
        covered: the paths of streams of which a further append is no news to any watcher.
    """

    def __init__(self) -> None:
        self.newest = 0
        self.covered: set[str] = set()
        self._news: dict[int, News] = {}
        self._asked: int | None = None  # the number of the news whose watchers are gone through
        self._waiting: Iterator[str] = iter(())

    def __len__(self) -> int:
        return len(self._news)

    def add(self, news: News) -> None:
        """Takes news in."""
        self._news[news.number] = news
        self.newest = news.number
        if news.cursor is None:
            self.covered.discard(news.path)
        else:
            self.covered.add(news.path)

    def drop(self, number: int) -> None:
        """Forgets news that all have taken."""
        self._news.pop(number, None)

    def get(self, number: int) -> News | None:
        """Returns the news of a number, unless all have taken it."""
        return self._news.get(number)

    def of(self, path: str) -> list[News]:
        """Returns the news of one stream."""
        return [news for news in self._news.values() if news.path == path]

    def after(self, number: int, root: str) -> Iterator[News]:
        """Yields the news below a stream root after that of a number, the oldest first."""
        prefix = root + "/"
        return (
            news
            for news in self._news.values()
            if news.number > number and news.path.startswith(prefix)
        )

    def rename(self, incarnations: Mapping[int, int]) -> bool:
        """Has cursors of incarnations that were renamed use the new names; returns whether there were any."""
        renamed = False
        for number, news in self._news.items():
            cursor = news.cursor
            if cursor is not None and cursor.incarnation in incarnations:
                cursor = Offset(incarnations[cursor.incarnation], cursor.position)
                self._news[number] = News(news.path, number, cursor)
                renamed = True
        return renamed

    def oldest_below(self, root: str) -> News | None:
        """Returns the oldest news of a stream below the stream root. That of others waits for the root to be theirs again."""
        return next((n for n in self._news.values() if n.path.startswith(root + "/")), None)

    def waiting_for(self, news: News, watch: Watch) -> Iterator[str]:
        """Returns the watchers of news that have not been gone through yet."""
        if self._asked != news.number:
            self._asked = news.number
            self._waiting = iter(watch.ids())
        return self._waiting

    def put_back(self, id_: str) -> None:
        """Has a watcher that was gone through gone through once more."""
        self._waiting = chain((id_,), self._waiting)

    def begin_again(self) -> None:
        """Has all watchers gone through anew, after some of them could not take the news."""
        self._asked = None

    def uncover(self, paths: Iterable[str]) -> None:
        """Notes that a subscription may now stand at the tail of some streams."""
        self.covered.difference_update(paths)

    def document(self) -> bytes:
        """Returns the news as a store keeps it."""
        return msgspec.msgpack.encode((self.newest, tuple(self._news.values())))

    def restore(self, document: bytes) -> None:
        """Takes back what `document` gave."""
        self.newest, news = _DOCUMENT.decode(document)
        self._news = {each.number: each for each in news}


_DOCUMENT: Final = msgspec.msgpack.Decoder(tuple[int, tuple[News, ...]])
