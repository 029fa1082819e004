"""Finds the subscriptions that watch a stream, with an index of patterns, explicit links and wake streams.

For each path, a cache keeps the matching patterns instead of the subscriptions. So ten thousand subscriptions with the same
pattern take no more memory per path than one.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from .globs import Globs, matches

_REMEMBERED: Final = 200_000  #: maximum number of cached groups of watchers, over all paths


class Watch:
    """The watchers of one stream, as groups of subscription ids that may overlap."""

    __slots__ = ("_groups",)

    def __init__(self, groups: tuple[dict[str, None], ...]) -> None:
        self._groups = groups

    def __len__(self) -> int:
        """Returns the number of watchers. A subscription in two groups counts twice."""
        return sum(map(len, self._groups))

    def __contains__(self, id_: object) -> bool:
        return any(id_ in group for group in self._groups)

    def ids(self) -> Iterable[str]:
        """Returns a copy of the ids, each once."""
        if len(self._groups) == 1:
            return tuple(self._groups[0])
        found: dict[str, None] = {}
        for group in self._groups:
            found.update(group)
        return found


NOBODY: Final = Watch(())  #: the watchers of a stream that nobody watches


class Watching:
    """An index of the watchers of all streams, with a cache by path.

    Args:
        root: the stream root, below which patterns match.
    """

    def __init__(self, root: str) -> None:
        self._prefix = root + "/"
        self._globs: Globs[str] = Globs()
        self._explicit: dict[str, dict[str, None]] = {}
        self._announcing: dict[str, dict[str, None]] = {}
        self._remembered: dict[str, Watch] = {}
        self._groups = 0

    def of(self, path: str) -> Watch:
        """Returns the watchers of the stream at a path."""
        found = self._remembered.get(path)
        return self._find(path) if found is None else found

    def _find(self, path: str) -> Watch:
        if self._groups >= _REMEMBERED:
            self._forget()
        groups: list[dict[str, None]] = []
        explicit = self._explicit.get(path)
        if explicit is not None:
            groups.append(explicit)
        if path not in self._announcing and path.startswith(self._prefix):
            groups += self._globs.groups(path.removeprefix(self._prefix))
        watch = self._remembered[path] = Watch(tuple(groups)) if groups else NOBODY
        self._groups += 1 + len(groups)
        return watch

    def matches(self, pattern: str | None, path: str) -> bool:
        """Returns whether a pattern links the stream at a path."""
        return (
            pattern is not None
            and path not in self._announcing
            and path.startswith(self._prefix)
            and matches(pattern, path.removeprefix(self._prefix))
        )

    def announcing(self, path: str) -> Iterator[str]:
        """Yields the ids of the subscriptions whose wake stream has this path."""
        return iter(tuple(self._announcing.get(path, ())))

    def add(
        self, id_: str, pattern: str | None, streams: Iterable[str], wake_stream: str | None
    ) -> None:
        """Adds a subscription.

        Args:
            id_: the id of the subscription.
            pattern: its pattern, or None.
            streams: the absolute paths of its explicitly linked streams.
            wake_stream: the absolute path of its wake stream, or None.
        """
        if pattern is not None:
            self._globs.add(pattern, id_)
        if wake_stream is not None:
            self._announcing.setdefault(wake_stream, {})[id_] = None
        self.link(id_, streams)
        self._forget()

    def remove(
        self, id_: str, pattern: str | None, streams: Iterable[str], wake_stream: str | None
    ) -> None:
        """Removes a subscription that was added with the same arguments."""
        if pattern is not None:
            self._globs.remove(pattern, id_)
        if wake_stream is not None:
            _discard(self._announcing, wake_stream, id_)
        self.unlink(id_, streams)
        self._forget()

    def link(self, id_: str, streams: Iterable[str]) -> None:
        """Adds explicit links to a subscription, by absolute paths."""
        for path in streams:
            self._explicit.setdefault(path, {})[id_] = None
            self._remembered.pop(path, None)

    def unlink(self, id_: str, streams: Iterable[str]) -> None:
        """Removes explicit links from a subscription, by absolute paths."""
        for path in streams:
            _discard(self._explicit, path, id_)
            self._remembered.pop(path, None)

    def _forget(self) -> None:
        self._remembered.clear()
        self._groups = 0


def _discard(index: dict[str, dict[str, None]], path: str, id_: str) -> None:
    ids = index[path]
    ids.pop(id_, None)
    if not ids:
        del index[path]
