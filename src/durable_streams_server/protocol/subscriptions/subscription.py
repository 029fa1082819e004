"""The newest state of one subscription: its configuration, links, cursors and wake.

A subscription keeps a cursor only for streams with unread bytes. The cursor of every other stream is its tail. So a subscription
to a million streams costs only as much as its backlog, and linking an existing stream at its tail costs nothing.

Links are kept relative to the stream root. Cursors are kept by absolute path, because they belong to streams that do not move. If
the root changes, the cursors of streams outside it are set aside until their root returns.
"""

from collections.abc import Iterable
from itertools import islice

import msgspec

from ..offsets import Offset
from .changes import Config, Wake


class Subscription:
    """The newest state of one incarnation of a subscription.

    Attributes:
        id: the id that the client chose.
        incarnation: the number that distinguishes this subscription from earlier ones with the same id.
        config: the configuration that it was created with.
        created_at: the time of its creation, in microseconds of Unix time.
        owner: the client that created it, as `token:` or `jwt:` and a name, or None if that client had no token. It never changes.
        links: the explicitly linked streams, as paths relative to the stream root.
        streams: the explicitly linked streams, as absolute paths.
        due: the streams with unread bytes, in queue order. Maps each path to the acknowledged offset.
        aside: cursors like those in `due`, of streams outside the present stream root.
        begun_after: the number of the newest feed entry when the subscription was created.
        taken: maps each stream root to the number of the newest feed entry below it that was applied.
        generation: the number of the newest wake.
        wake: the wake in flight, or None.
        misses: maps each stream root to the times `since` and `again` of `Missed`.
    """

    __slots__ = (
        "_root",
        "aside",
        "begun_after",
        "config",
        "created_at",
        "due",
        "generation",
        "id",
        "incarnation",
        "links",
        "misses",
        "owner",
        "streams",
        "taken",
        "wake",
    )

    def __init__(
        self,
        id_: str,
        incarnation: int,
        config: Config,
        created_at: int,
        root: str,
        owner: str | None = None,
    ) -> None:
        self.id = id_
        self.incarnation = incarnation
        self.config = config
        self.created_at = created_at
        self.owner = owner
        self.links: dict[str, None] = dict.fromkeys(config.streams)
        self.streams: dict[str, None] = {}
        self.due: dict[str, Offset] = {}
        self.aside: dict[str, Offset] = {}
        self.begun_after = 0
        self.taken: dict[str, int] = {}
        self.generation = 0
        self.wake: Wake | None = None
        self.misses: dict[str, tuple[int, int]] = {}
        self.move(root)

    @property
    def wake_stream(self) -> str | None:
        """The absolute path of a pull-wake's wake stream, or None for a webhook."""
        below = self.config.wake_stream
        return None if below is None else whole_path(below, self._root)

    def move(self, root: str) -> None:
        """Moves the links below another stream root, and sets aside the cursors outside it."""
        self._root = root
        config = self.config
        if any(path.startswith("/") for path in (*config.streams, config.wake_stream or "")):
            self.config = msgspec.structs.replace(
                config,
                streams=tuple(relative_path(path, root) for path in config.streams),
                wake_stream=config.wake_stream and relative_path(config.wake_stream, root),
            )
        self.links = {relative_path(path, root): None for path in self.links}
        self.streams = {whole_path(path, root): None for path in self.links}
        cursors = self.cursors
        prefix = root + "/"
        self.due = {path: at for path, at in cursors.items() if path.startswith(prefix)}
        self.aside = {path: at for path, at in cursors.items() if not path.startswith(prefix)}

    @property
    def cursors(self) -> dict[str, Offset]:
        """All kept cursors by path, those set aside included."""
        return {**self.due, **self.aside} if self.aside else self.due

    def has_taken(self, root: str) -> int:
        """Returns the number of the newest feed entry below a stream root that was applied to this subscription."""
        return self.taken.get(root, self.begun_after)

    @property
    def missed(self) -> int:
        """The steady time, in microseconds, of the earliest missed append below the present stream root, or 0."""
        return self.misses[self._root][0] if self._root in self.misses else 0

    @property
    def missed_again(self) -> int:
        """The steady time, in microseconds, of the earliest append that the present recall pass may not find, or 0."""
        return self.misses[self._root][1] if self._root in self.misses else 0

    def set_cursor(self, path: str, offset: Offset | None) -> int:
        """Sets the cursor of a stream, and returns by how much the number of kept cursors grows: -1, 0 or 1.

        A cursor of None stands for the stream's tail and is not kept.
        """
        is_below = path.startswith(self._root + "/")
        kept = self.due if is_below else self.aside
        before = len(kept)
        if offset is None:
            kept.pop(path, None)
        else:
            kept[path] = offset
        return len(kept) - before

    def pass_over(self, count: int) -> None:
        """Moves the first `count` streams of the queue to its end."""
        for path in list(islice(self.due, count)):
            self.due[path] = self.due.pop(path)

    def link(self, added: Iterable[str], removed: Iterable[str]) -> tuple[list[str], list[str]]:
        """Adds and removes explicit links, and returns the absolute paths that were added and removed.

        The paths are given relative to the stream root.
        """
        now_linked, unlinked = [], []
        for path in added:
            below = relative_path(path, self._root)
            whole = whole_path(below, self._root)
            self.links[below] = self.streams[whole] = None
            now_linked.append(whole)
        for path in removed:
            for below in self._spellings(relative_path(path, self._root)):
                del self.links[below]
                whole = whole_path(below, self._root)
                del self.streams[whole]
                unlinked.append(whole)
        return now_linked, unlinked

    def _spellings(self, path: str) -> list[str]:
        """Returns the spellings under which a link is kept.

        During a replay of records of an earlier version the root is not known yet, so links may still be absolute paths.
        """
        if path in self.links:
            return [path]
        return [each for each in self.links if each[0] == "/" and each.endswith("/" + path)]


def whole_path(path: str, root: str) -> str:
    """Returns the absolute path of a link. A link that is an absolute path already, below another root, is returned unchanged."""
    return path if path.startswith("/") else f"{root}/{path}"


def relative_path(path: str, root: str) -> str:
    """Returns a path relative to the stream root. A path outside the root is returned unchanged."""
    return path.removeprefix(root + "/")
