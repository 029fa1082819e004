"""The streams in memory: the newest states by path, loaded from the catalog when asked for, let go when idle.

A change is seen by decisions at once and by readers when it is durable. While a create or a removal is in flight, a path has
two streams, the newest and the one that readers see; an overlay keeps the second.

A stream has one state object for as long as anybody holds it. A state that was let go comes back as the same object if a
request that waits for the disk still has it, so no reader can be attached to a state that appends no longer change.
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
from ..recent import Recent, RecentCache
from .catalog import Catalog, producers_of, state_of
from .log_layout import Extent
from .logs import Logs
from .producers import StoredProducers, Tally

_TRIES: Final = 2  # states looked at for one to let go


class _Shown:
    """What readers see at a path while creates or removals of it are in flight."""

    __slots__ = ("flying", "state")

    def __init__(self, state: StreamState | None) -> None:
        self.state = state
        self.flying = 0


class _Source:
    """The path of a stream that forks are read from."""

    __slots__ = ("__weakref__", "path")

    def __init__(self, path: str) -> None:
        self.path = path


class States:
    """Keeps the newest states of streams by path. `get` and indexing load a state from the catalog if it is not in memory.

    Args:
        catalog: where states are loaded from.
        logs: their bytes.
        session: the number of this opening of the directory.
        max_loaded: how many to keep.
        is_clean: whether the catalog alone can give a state back.
        on_load: told of every state that comes into memory.

    Attributes:
        recent: the newest bytes of every loaded stream, by incarnation.
        tally: how many producers' states no checkpoint has written.
        is_replaying: whether later records may remove what is loaded now, and its log be gone already.
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
        self._gone: dict[str, int] = {}  # removed, but the catalog does not know yet
        self._unwritten: dict[str, int] = {}  # created, but the catalog does not know yet
        self._shown: dict[str, _Shown] = {}
        # The paths of streams whose bytes a fork in memory begins with. They live as long as the forks' links.
        self._sources: WeakValueDictionary[int, _Source] = WeakValueDictionary()
        self._links: WeakKeyDictionary[Ancestry, _Source] = WeakKeyDictionary()
        self._let_go: WeakValueDictionary[int, StreamState] = WeakValueDictionary()  # still held
        self._ancestries: WeakValueDictionary[int, Ancestry] = WeakValueDictionary()  # of forks
        self.is_replaying = False

    def get(self, path: str, /) -> StreamState | None:
        """Returns the newest state at a path.

        A stream whose log is damaged has its state, with `damage`: it can be listed and deleted.

        Raises:
            Damaged: its catalog entry is.
        """
        state = self.newest.get(path)
        if state is None and path not in self._gone:
            state = self._load(path)
        return state

    def __getitem__(self, path: str, /) -> StreamState:
        state = self.newest.get(path)  # not `get`: each append comes here
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
        """Returns the state that readers may see at a path."""
        shown = self._shown.get(path)
        return shown.state if shown is not None else self.get(path)

    def paths(self) -> Iterator[str]:
        """Iterates over the visible streams that are not soft-deleted: first those that the catalog does not have, then its own.

        One that the catalog gets meanwhile would be met twice, so the first are remembered. Nothing here takes long at once,
        however many streams there are.
        """
        seen: set[str] = set()
        for path in list(self._unwritten):
            seen.add(path)
            state = self.visible(path)
            if state is not None and not state.visible_soft_deleted:
                yield path
        for path, entry in self._catalog.paths():
            if path in seen:
                continue
            shown, state = self._shown.get(path), self.loaded(path)
            if shown is not None:
                state = shown.state
            is_there = (
                path not in self._gone if state is None and shown is None else state is not None
            )
            is_deleted = entry.soft_deleted if state is None else state.visible_soft_deleted
            if is_there and not is_deleted:
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
                self._unwritten.pop(change.path, None)

    def created(self, state: StreamState) -> None:
        """Makes room for the bytes of a new stream."""
        self.recent[state.incarnation] = Recent(state.base, state.tail, 0)
        self._unwritten[state.path] = state.incarnation
        state.producers = StoredProducers(self._catalog, state.incarnation, 0, self.tally)
        if state.origin is not None:
            self._remember(state.ancestry, state.origin)
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

    def written(self, path: str, incarnation: int) -> None:
        """Notes that the catalog has a stream."""
        if self._unwritten.get(path) == incarnation:
            del self._unwritten[path]

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
        if held is not None:
            return held.path
        source = self._sources.get(incarnation)
        return None if source is None else source.path

    def _remember(self, link: Ancestry, origin: Origin) -> None:
        """Remembers where the stream is whose bytes are the newest part that a fork begins with: its source, or, if it was
        forked inside an ancestor's part, that ancestor, which the source has led to."""
        source = self._sources.get(link.incarnation)
        if source is None and link.incarnation == origin.incarnation:
            source = self._sources[link.incarnation] = _Source(origin.source)
        if source is not None:
            self._links[link] = source

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
        """Looks at the logs of the streams that the replay has loaded and not removed."""
        self.is_replaying = False
        for state in self.newest.values():
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
            source = self._catalog.find(origin.source)
            if source is None or source.incarnation != origin.incarnation:
                ancestry = self._ancestries[incarnation] = Ancestry.of(lineage)
                self._remember(ancestry, origin)
                break
            untraced.append((incarnation, origin))
            incarnation, origin, lineage = source.incarnation, source.origin, source.lineage
        for incarnation, origin in reversed(untraced):
            ancestry = ancestry.fork(origin.incarnation, origin.position)
            self._ancestries[incarnation] = ancestry
            self._remember(ancestry, origin)
        fork.ancestry = ancestry
        if untraced:
            fork.lineage = (ancestry.span,)

    def let_go(self) -> None:
        """Lets idle streams go if there are too many, between commands: what one has loaded it finds loaded."""
        for _ in range(_TRIES):
            if len(self.newest) <= self.max_loaded:
                return
            path, state = next(iter(self.newest.items()))
            if state.readers or path in self._shown or not self._is_clean(state):
                self.newest.move_to_end(path)  # it is looked at again when its turn comes
                continue
            del self.newest[path]
            self._let_go[state.incarnation] = state
            self._memory.forget(self.recent.pop(state.incarnation))
