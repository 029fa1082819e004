"""The streams in memory: the newest states by path, loaded from the catalog when asked for, let go when idle.

A change is seen by decisions at once and by readers when it is durable. While a create or a removal is in flight, a path has
two streams, the newest and the one that readers see; an overlay keeps the second.

A stream has one state object for as long as anybody holds it. A state that was let go comes back as the same object if a
request that waits for the disk still has it, so no reader can be attached to a state that appends no longer change.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final
from weakref import WeakValueDictionary

from ...errors import BadRequest, NotFound
from ...log import log as _log
from ...protocol.ancestry import NONE, Ancestry
from ...protocol.paths import check_path
from ...protocol.state import Created, Origin, Removed, StreamChange, StreamState
from .catalog import Catalog, state_of
from .logs import Extent, Logs
from .recent import Memory, Recent

_TRIES: Final = 2  # states looked at for one to let go


class _Shown:
    """What readers see at a path while creates or removals of it are in flight."""

    __slots__ = ("flying", "state")

    def __init__(self, state: StreamState | None) -> None:
        self.state = state
        self.flying = 0


class States(OrderedDict[str, StreamState]):
    """The newest states by path, those looked at for letting go last. `get` loads; so does indexing.

    Args:
        catalog: where states are loaded from.
        logs: their bytes.
        session: the number of this opening of the directory.
        max_loaded: how many to keep.
        is_clean: whether the catalog alone can give a state back.
        on_load: told of every state that comes into memory.

    Attributes:
        recent: the newest bytes of every loaded stream, by incarnation.
        is_replaying: whether later records may remove what is loaded now, and its log be gone already.
    """

    def __init__(
        self,
        catalog: Catalog,
        logs: Logs,
        memory: Memory,
        session: int,
        max_loaded: int,
        is_clean: Callable[[StreamState], bool],
        on_load: Callable[[StreamState], None],
    ) -> None:
        super().__init__()
        self.recent: dict[int, Recent] = {}
        self._catalog = catalog
        self._logs = logs
        self._memory = memory
        self._session = session
        self._max_loaded = max_loaded
        self._is_clean = is_clean
        self._on_load = on_load
        self._gone: dict[str, int] = {}  # removed, but the catalog does not know yet
        self._shown: dict[str, _Shown] = {}
        self._sources: dict[int, str] = {}  # the paths of streams that have forks in memory
        self._let_go: WeakValueDictionary[int, StreamState] = WeakValueDictionary()  # still held
        self._ancestries: WeakValueDictionary[int, Ancestry] = WeakValueDictionary()  # of forks
        self.is_replaying = False

    def get(self, path: str, _: None = None, /) -> StreamState | None:  # type: ignore[override]
        """Returns the newest state at a path.

        A stream whose log is damaged has its state, with `damage`: it can be listed and deleted.

        Raises:
            Damaged: its catalog entry is.
        """
        state = super().get(path)
        if state is None and path not in self._gone:
            state = self._load(path)
        return state

    def __missing__(self, path: str) -> StreamState:
        state = self.get(path)
        if state is None:
            raise KeyError(path)
        return state

    def loaded(self, path: str) -> StreamState | None:
        """Returns the newest state at a path if it is in memory."""
        return super().get(path)

    def visible(self, path: str) -> StreamState | None:
        """Returns the state that readers may see at a path."""
        shown = self._shown.get(path)
        return shown.state if shown is not None else self.get(path)

    def paths(self) -> Iterator[str]:
        """Iterates over the visible streams that are not soft-deleted."""
        seen = {*self, *self._gone, *self._shown}
        for path in tuple(seen):
            state = self.visible(path)
            if state is not None and not state.visible_soft_deleted:
                yield path
        for path, entry in self._catalog.paths():
            if path not in seen and not entry.soft_deleted:
                yield path

    # -- as changes go by ---------------------------------------------------

    def will_change(self, change: StreamChange) -> None:
        """Keeps what readers see, before a create or removal is applied."""
        if isinstance(change, Created | Removed):
            shown = self._shown.get(change.path)
            if shown is None:
                shown = self._shown[change.path] = _Shown(self.get(change.path))
            shown.flying += 1
            if isinstance(change, Removed):
                self._gone[change.path] = change.incarnation

    def created(self, state: StreamState) -> None:
        """Makes room for the bytes of a new stream."""
        self.recent[state.incarnation] = Recent(state.base, state.tail, 0)
        if state.origin is not None:
            self._sources[state.origin.incarnation] = state.origin.source
            self._ancestries[state.incarnation] = state.ancestry

    def published(self, change: StreamChange, state: StreamState) -> None:
        """Lets readers see a create or removal that has become durable."""
        if not isinstance(change, Created | Removed):
            return
        shown = self._shown[change.path]
        shown.flying -= 1
        shown.state = state if isinstance(change, Created) else None
        if shown.flying == 0:
            del self._shown[change.path]
        if isinstance(change, Removed):
            recent = self.recent.pop(change.incarnation)
            self._memory.forget(recent)
            self._sources.pop(change.incarnation, None)

    def flushed(self, incarnation: int, end: int, entries: int) -> int:
        """Notes that a log has a stream's bytes up to `end`; returns how many that adds."""
        recent = self.recent.get(incarnation)
        if recent is None or recent.gone:
            return 0
        added = end - recent.flushed
        recent.flushed, recent.entries = end, entries
        return added

    def dropped(self, path: str, incarnation: int) -> None:
        """Notes that the catalog has forgotten a removed stream."""
        if self._gone.get(path) == incarnation:
            del self._gone[path]

    def recent_of(self, incarnation: int) -> Recent:
        """Returns the newest bytes of a stream whose state, or that of a fork of it, the caller holds.

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
        """Returns the path of a stream that was let go while its state is held, or of a loaded fork's ancestor."""
        held = self._let_go.get(incarnation)
        return held.path if held is not None else self._sources.get(incarnation)

    # -- loading and letting go ---------------------------------------------

    def _load(self, path: str) -> StreamState | None:
        try:
            check_path(path)
        except BadRequest:
            return None  # no stream can be there, and no key of the catalog can hold it
        entry = self._catalog.find(path)
        if entry is None:
            return None
        state = self._let_go.pop(entry.incarnation, None)
        if state is None:
            state = state_of(path, entry, self._session)
            state.producers = self._catalog.producers(entry.incarnation)
            if state.origin is not None:
                self._trace(state)
        if not self.is_replaying:
            self.note_damage(state, self._logs.find_damage(entry.incarnation, entry.extent))
        self[path] = state
        self.recent[state.incarnation] = Recent(state.base, state.tail, entry.index_entries)
        self._on_load(state)
        return state

    def end_replay(self) -> None:
        """Looks at the logs of the streams that the replay has loaded and not removed."""
        self.is_replaying = False
        for state in self.values():
            recent = self.recent[state.incarnation]
            extent = Extent(recent.base, recent.flushed, recent.entries)
            self.note_damage(state, self._logs.find_damage(state.incarnation, extent))

    def note_damage(self, state: StreamState, damage: str | None) -> None:
        """Notes what is wrong with a stream's log, if anything is: from now on the stream is refused, and only it."""
        if damage is not None and state.damage is None:
            _log.error("the stream %s is damaged: %s", state.path, damage)
            state.damage = damage

    def _trace(self, fork: StreamState) -> None:
        """Finds out a loaded fork's ancestry, and remembers where its ancestors are, whose bytes it is read from.

        A fork is kept with its own span; its sources have those before it. They are looked up one after the other, up to the
        first whose ancestry is known. One that is not there was put aside by a repair: what the fork says itself must do then.
        """
        untraced: list[tuple[int, Origin]] = []  # the fork and its sources, each with its origin
        ancestry = NONE
        incarnation, origin, lineage = fork.incarnation, fork.origin, fork.lineage
        while origin is not None:
            known = self._ancestries.get(incarnation)
            if known is not None:
                ancestry = known
                break
            self._sources[origin.incarnation] = origin.source
            source = self._catalog.find(origin.source)
            if source is None or source.incarnation != origin.incarnation:
                ancestry = self._ancestries[incarnation] = Ancestry.of(lineage)
                break
            untraced.append((incarnation, origin))
            incarnation, origin, lineage = source.incarnation, source.origin, source.lineage
        for incarnation, origin in reversed(untraced):
            ancestry = ancestry.fork(origin.incarnation, origin.position)
            self._ancestries[incarnation] = ancestry
        fork.ancestry = ancestry
        if untraced:
            fork.lineage = (ancestry.span,)

    @property
    def too_many(self) -> bool:
        """Whether more streams are in memory than should be."""
        return len(self) > self._max_loaded

    def let_go(self) -> None:
        """Lets idle streams go if there are too many, between commands: what one has loaded it finds loaded."""
        for _ in range(_TRIES):
            if len(self) <= self._max_loaded:
                return
            path = next(iter(self))
            state = self[path]
            if state.readers or path in self._shown or not self._is_clean(state):
                self.move_to_end(path)  # it is looked at again when its turn comes
                continue
            del self[path]
            self._let_go[state.incarnation] = state
            self._memory.forget(self.recent.pop(state.incarnation))
