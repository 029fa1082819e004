"""The states of streams in memory: loaded from the catalog on demand, and evicted when idle.

Decisions see a change at once, but readers see it only when it is durable. While a create or removal is in flight, a path has two streams:
the newest one, and the one that readers see. An overlay keeps the one that readers see.

A stream has one state object for as long as any object refers to it. If a request that waits for the disk still refers to an evicted state, the
stream is loaded as that same object. So no reader can be attached to a state object that later appends do not change.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final
from weakref import WeakKeyDictionary, WeakValueDictionary

from ...errors import BadRequest, NotFound
from ...log import log as _log
from ...protocol.ancestry import NONE, Ancestry
from ...protocol.paths import check_path
from ...protocol.state import Created, Origin, Removed, StreamChange, StreamState
from ..damage import Damaged
from ..ordered import STEP, merged, smallest
from ..recent import Recent, RecentCache
from .catalog import Catalog, Entry, producers_of, state_of
from .log_layout import Extent
from .logs import Logs
from .producers import StoredProducers, Tally

_TRIES: Final = 2  # states examined in one call of `evict_idle`


class _Overlay:
    """Keeps the state that readers see at a path while creates or removals of the path are in flight.

    Args:
        state: the state; None if readers see no stream.
    """

    __slots__ = ("flying", "state")

    def __init__(self, state: StreamState | None) -> None:
        self.state = state
        self.flying = 0


class _Source:
    """Keeps the path of a stream from which loaded forks inherit bytes."""

    __slots__ = ("__weakref__", "path")

    def __init__(self, path: str) -> None:
        self.path = path


class States:
    """Keeps the newest states of streams by path. `get` and indexing load a state from the catalog if it is not in memory.

    Args:
        catalog: the catalog to load states from.
        logs: the logs of the streams.
        memory: the budget of recent bytes.
        session: the number of this opening of the directory.
        max_loaded: maximum states in memory before idle ones are evicted.
        is_clean: returns whether the catalog alone can restore a state.
        on_load: called with every state that is loaded.

    Attributes:
        newest: the loaded states by path, in the order in which `evict_idle` examines them.
        max_loaded: the argument of this name.
        recent: the newest bytes of every loaded stream, by incarnation.
        tally: counts the producers' states that no checkpoint has written.
        is_replaying: whether records are being replayed. The log of a loaded stream may then be gone already, because a later record removes
            the stream.
    """

    def __init__(
        self,
        catalog: Catalog,
        logs: Logs,
        memory: RecentCache,
        session: int,
        max_loaded: int,
        is_clean: Callable[[StreamState], bool],
        on_load: Callable[[StreamState], None],
    ) -> None:
        self.newest: OrderedDict[str, StreamState] = OrderedDict()
        self.max_loaded = max_loaded
        self.recent: dict[int, Recent] = {}
        self.tally = Tally()
        self._catalog = catalog
        self._logs = logs
        self._memory = memory
        self._session = session
        self._is_clean = is_clean
        self._on_load = on_load
        self._gone: dict[str, int] = {}  # removed streams that are still in the catalog
        self._unwritten: dict[str, int] = {}  # created streams that are not in the catalog yet
        self._overlays: dict[str, _Overlay] = {}
        # The streams from which loaded forks inherit bytes. An entry lasts as long as a fork's link refers to it.
        self._sources: WeakValueDictionary[int, _Source] = WeakValueDictionary()
        self._links: WeakKeyDictionary[Ancestry, _Source] = WeakKeyDictionary()
        self._evicted: WeakValueDictionary[int, StreamState] = (
            WeakValueDictionary()
        )  # evicted, but still in use
        self._ancestries: WeakValueDictionary[int, Ancestry] = WeakValueDictionary()  # of forks
        self.is_replaying = False

    def get(self, path: str, /) -> StreamState | None:
        """Returns the newest state at a path.

        If the stream's log is damaged, the state has `damage`. Such a stream can still be listed and deleted.

        Raises:
            Damaged: the stream's entry in the catalog is damaged.
        """
        state = self.newest.get(path)
        if state is None and path not in self._gone:
            state = self._load(path)
        return state

    def __getitem__(self, path: str, /) -> StreamState:
        state = self.newest.get(path)  # avoids a call of `get`, because every append runs this
        if state is None:
            state = self.get(path)
        if state is None:
            raise KeyError(path)
        return state

    def __setitem__(self, path: str, state: StreamState, /) -> None:
        self.newest[path] = state

    def __delitem__(self, path: str, /) -> None:
        del self.newest[path]

    def loaded(self, path: str) -> StreamState | None:
        """Returns the newest state at a path if it is in memory."""
        return self.newest.get(path)

    def find_again(self, state: StreamState) -> StreamState | None:
        """Returns the state object now in use for the stream of an evicted state; None if the stream has ended or is damaged."""
        try:
            found = self.get(state.path)
        except Damaged:
            return None
        return found if found is not None and found.incarnation == state.incarnation else None

    def visible(self, path: str) -> StreamState | None:
        """Returns the state that readers may see at a path; None if they see no stream."""
        overlay = self._overlays.get(path)
        return overlay.state if overlay is not None else self.get(path)

    def paths(self) -> Iterator[str]:
        """Iterates over the visible streams that are not soft-deleted: first those not in the catalog, then those in it.

        The paths of the first group are remembered, because a checkpoint may add these streams to the catalog during the iteration. No step
        of the iteration takes long, however many streams exist.
        """
        seen: set[str] = set()
        for path in list(self._unwritten):
            seen.add(path)
            state = self.visible(path)
            if state is not None and not state.visible_soft_deleted:
                yield path
        for path, entry in self._catalog.paths():
            if path not in seen and self._is_listed(path, entry):
                yield path

    def ordered_paths(self, prefix: str, after: str, limit: int) -> Iterator[str | None]:
        """Iterates like `Store.ordered_paths`. Leaves out streams whose entry in the catalog is damaged."""
        unwritten = yield from smallest(self._visible_unwritten(), prefix, after, limit)
        yield from merged(unwritten, self._ordered_in_catalog(prefix, after), limit)

    def _visible_unwritten(self) -> Iterator[str]:
        """Iterates over the visible streams that are not soft-deleted and not in the catalog."""
        for path in list(self._unwritten):
            state = self.visible(path)
            if state is not None and not state.visible_soft_deleted:
                yield path

    def _ordered_in_catalog(self, prefix: str, after: str) -> Iterator[str | None]:
        """Iterates over the paths of visible streams in the catalog in order, and yields None after each step."""
        entries = self._catalog.paths(lambda _: None, max(prefix, after))
        for count, (path, entry) in enumerate(entries, 1):
            if not path.startswith(prefix):
                return
            if count % STEP == 0:
                yield None
            if path > after and self._is_listed(path, entry):
                yield path

    def _is_listed(self, path: str, entry: Entry) -> bool:
        """Returns whether a stream in the catalog is visible and not soft-deleted."""
        overlay, state = self._overlays.get(path), self.loaded(path)
        if overlay is not None:
            state = overlay.state
        elif state is None and path in self._gone:
            return False
        if state is None:
            return overlay is None and not entry.soft_deleted
        return not state.visible_soft_deleted

    # -- changes ------------------------------------------------------------

    def keep_visible(self, change: StreamChange) -> None:
        """Keeps the state that readers see at a path, before a create or removal is applied."""
        if isinstance(change, Created | Removed):
            overlay = self._overlays.get(change.path)
            if overlay is None:
                overlay = self._overlays[change.path] = _Overlay(self.get(change.path))
            overlay.flying += 1
            if isinstance(change, Removed):
                self._gone[change.path] = change.incarnation
                self._unwritten.pop(change.path, None)

    def add(self, state: StreamState) -> None:
        """Adds the recent bytes and the producers of a created stream."""
        self.recent[state.incarnation] = Recent(state.base, state.tail, 0)
        self._unwritten[state.path] = state.incarnation
        state.producers = StoredProducers(self._catalog, state.incarnation, 0, self.tally)
        if state.origin is not None:
            self._remember_source(state.ancestry, state.origin)
            self._ancestries[state.incarnation] = state.ancestry

    def publish(self, change: StreamChange, state: StreamState) -> None:
        """Shows readers a create or removal that has become durable. Ignores other changes."""
        if not isinstance(change, Created | Removed):
            return
        overlay = self._overlays[change.path]
        overlay.flying -= 1
        overlay.state = state if isinstance(change, Created) else None
        if overlay.flying == 0:
            del self._overlays[change.path]
        if isinstance(change, Removed):
            recent = self.recent.pop(change.incarnation)
            self._memory.forget(recent)

    def note_written(self, path: str, incarnation: int) -> None:
        """Notes that a created stream is in the catalog now."""
        if self._unwritten.get(path) == incarnation:
            del self._unwritten[path]

    def note_dropped(self, path: str, incarnation: int) -> None:
        """Notes that a removed stream is no longer in the catalog."""
        if self._gone.get(path) == incarnation:
            del self._gone[path]

    def recent_of(self, incarnation: int) -> Recent:
        """Returns the recent bytes of a stream, and loads the stream if it was evicted.

        The caller must hold the stream's state or the state of a fork of the stream.

        Raises:
            NotFound: the stream was deleted meanwhile.
        """
        recent = self.recent.get(incarnation)
        if recent is None and (path := self._path_of(incarnation)) is not None:
            self.get(path)
            recent = self.recent.get(incarnation)
        if recent is None:
            raise NotFound("there is no stream at this path")
        return recent

    def _path_of(self, incarnation: int) -> str | None:
        """Returns the path of an evicted stream whose state is still in use, or of a loaded fork's ancestor."""
        held = self._evicted.get(incarnation)
        if held is not None:
            return held.path
        source = self._sources.get(incarnation)
        return None if source is None else source.path

    def _remember_source(self, link: Ancestry, origin: Origin) -> None:
        """Remembers the path of the stream that owns the last inherited bytes of a fork.

        That is the fork's source, or an ancestor of the source if the fork point lies within the ancestor's part.
        """
        source = self._sources.get(link.incarnation)
        if source is None and link.incarnation == origin.incarnation:
            source = self._sources[link.incarnation] = _Source(origin.source)
        if source is not None:
            self._links[link] = source

    # -- loading and evicting -----------------------------------------------

    def _load(self, path: str) -> StreamState | None:
        try:
            check_path(path)
        except BadRequest:
            return None  # no stream can have this path, and it may be too long for a key of the catalog
        entry = self._catalog.find(path)
        if entry is None:
            return None
        state = self._evicted.pop(entry.incarnation, None)
        if state is None:
            state = state_of(path, entry, self._session)
            state.producers = producers_of(entry, self._catalog, self.tally)
            if state.origin is not None:
                self._trace(state)
        if not self.is_replaying:
            self.note_damage(state, self._logs.find_damage(entry.incarnation, entry.extent))
        self.newest[path] = state
        self.recent[state.incarnation] = Recent(state.base, state.tail, entry.index_entries)
        self._on_load(state)
        return state

    def end_replay(self) -> None:
        """Ends the replay, and checks the logs of the streams that the replay has loaded and not removed."""
        self.is_replaying = False
        for state in self.newest.values():
            recent = self.recent[state.incarnation]
            extent = Extent(recent.base, recent.flushed, recent.entries)
            self.note_damage(state, self._logs.find_damage(state.incarnation, extent))

    def note_damage(self, state: StreamState, damage: str | None) -> None:
        """Marks a stream as damaged if its log is damaged. The store then refuses requests for this stream, but not for others."""
        if damage is not None and state.damage is None:
            _log.error("the stream %s is damaged: %s", state.path, damage)
            state.damage = damage

    def _trace(self, fork: StreamState) -> None:
        """Finds the ancestry of a loaded fork, and remembers the paths of its ancestors, because reads of the fork need their bytes.

        The catalog has only a fork's own span. The earlier spans are in the entries of its sources, which are looked up one after the other,
        up to the first one whose ancestry is known. If a source is missing because a repair has put it aside, the entry of its fork is the
        last one that is used.
        """
        untraced: list[tuple[int, Origin]] = []  # the fork and its sources, each with its origin
        ancestry = NONE
        incarnation, origin, lineage = fork.incarnation, fork.origin, fork.lineage
        while origin is not None:
            known = self._ancestries.get(incarnation)
            if known is not None:
                ancestry = known
                break
            source = self._catalog.find(origin.source)
            if source is None or source.incarnation != origin.incarnation:
                ancestry = self._ancestries[incarnation] = Ancestry.of(lineage)
                self._remember_source(ancestry, origin)
                break
            untraced.append((incarnation, origin))
            incarnation, origin, lineage = source.incarnation, source.origin, source.lineage
        for incarnation, origin in reversed(untraced):
            inherited = ancestry  # keeps its links, and so the paths of its streams, until the new link has taken over its path
            ancestry = inherited.fork(origin.incarnation, origin.position)
            self._ancestries[incarnation] = ancestry
            self._remember_source(ancestry, origin)
        fork.ancestry = ancestry
        if untraced:
            fork.lineage = (ancestry.span,)

    def evict_idle(self) -> None:
        """Evicts idle streams if too many are loaded.

        Call it between commands only, because a command must still find the states that it has loaded.
        """
        for _ in range(_TRIES):
            if len(self.newest) <= self.max_loaded:
                return
            path, state = next(iter(self.newest.items()))
            if state.readers or path in self._overlays or not self._is_clean(state):
                self.newest.move_to_end(path)  # examined again after all others
                continue
            del self.newest[path]
            self._evicted[state.incarnation] = state
            self._memory.forget(self.recent.pop(state.incarnation))
