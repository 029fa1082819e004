"""The simulator's oracle: compares the store with a model of its durable records."""

from durable_streams_server.protocol.decisions.quota import Usage
from durable_streams_server.protocol.media import Kind
from durable_streams_server.protocol.registry import Registry
from durable_streams_server.protocol.state import (
    Appended,
    Change,
    Created,
    Removed,
    StreamState,
    Touched,
)
from durable_streams_server.protocol.subscriptions.changes import SubscriptionChange
from tests.crash.commands import DATE
from tests.crash.cursors import CursorOracle
from tests.crash.model import Model
from tests.crash.world import PATHS, World
from tests.requests import SECOND

REGISTRY = Registry("/registry")
#: The fields of a stream's state that must be the same after a restart.
COMPARED = (
    "ancestry",
    "closed",
    "closed_by",
    "children",
    "created_at",
    "last_seq",
    "lifetime",
    "lineage",
    "media",
    "origin",
    "producers",
    "public",
    "soft_deleted",
    "tail",
)


class Oracle:
    """Knows what readers must see at any moment, and how long each stream must live.

    Args:
        world: the simulation.
        cursors: the oracle of subscriptions, which sees each durable record before and after it is applied.

    Attributes:
        durable: the model of the durable records.
    """

    def __init__(self, world: World, cursors: CursorOracle) -> None:
        self._world = world
        self._cursors = cursors
        self._applied = 0  # the LSN of the last record in the model
        self._uses: dict[int, int] = {}  # the time at which each incarnation was last used
        self._lost: set[int] = set()  # the incarnations that lost a record in the last crash
        self.durable = Model()

    def begin_life(self, lost: set[int]) -> None:
        """Builds the model again from the records that the newly opened store has.

        Args:
            lost: the incarnations that lost a record in the last crash.
        """
        self._lost = lost
        self._cursors.begin_life()
        self.durable = Model()
        self.durable.subscriptions.max_due = self._world.max_due
        self._applied = 0
        self.follow()

    def turn_back_uses(self) -> None:
        """Limits the recorded times of use to the present, because a restart may set steady time back."""
        self._uses = {of: min(at, self._world.now) for of, at in self._uses.items()}

    def follow(self) -> None:
        """Applies to the model the records that have become durable since the last call."""
        while self._applied < self._world.store.wal.durable_lsn:
            self._applied += 1
            self._apply(self._applied, self._world.history[self._applied])

    def _apply(self, lsn: int, changes: list[Change]) -> None:
        durable = self.durable
        self._cursors.before(lsn, changes, durable.subscriptions, durable.states)
        durable.apply(changes)
        self._cursors.after(lsn, durable.subscriptions, durable.states)
        for change in changes:
            if isinstance(change, Created | Appended | Touched):
                used = self._uses.get(change.incarnation, 0)
                self._uses[change.incarnation] = max(change.at, used)

    def record_use(self, state: StreamState) -> None:
        """Records that a reader has used a stream at this moment."""
        used = self._uses.get(state.incarnation, 0)
        self._uses[state.incarnation] = max(self._world.now, used)

    def compare_paths(self) -> None:
        """Compares the visible state of every path, the usage of the store and the counts of owners with the model."""
        self.compare_usage()
        self._cursors.compare_owners()
        for path in [*PATHS, REGISTRY.path]:
            self.compare_visible(path)

    def compare_usage(self) -> None:
        """Compares the usage of the store with the model and the records in flight, which count too."""
        streams = len(self.durable.states)
        sizes = {incarnation: len(data) for incarnation, data in self.durable.bytes.items()}
        for lsn in range(self._applied + 1, self._world.store.wal.last_lsn + 1):
            for change in self._world.history[lsn]:
                if isinstance(change, Created):
                    streams += 1
                    sizes[change.incarnation] = 0
                elif isinstance(change, Appended):
                    sizes[change.incarnation] += len(change.data)
                elif isinstance(change, Removed):
                    streams -= 1
                    del sizes[change.incarnation]
        assert self._world.store.usage == Usage(streams, sum(sizes.values())), "the usage is wrong"

    def compare_visible(self, path: str) -> StreamState | None:
        """Compares the visible state of a stream with the model, and returns that state."""
        seen = self._world.wait(self._world.store.find(path))
        expected = self.durable.states.get(path)
        if expected is None or seen is None:
            assert seen is expected, f"{path} is not what it should be"
            return None
        assert seen.incarnation == expected.incarnation
        assert seen.visible_tail == expected.tail
        assert seen.visible_closed == expected.closed
        assert seen.visible_soft_deleted == expected.soft_deleted
        return seen

    def compare_bytes(self, state: StreamState, cap: int) -> None:
        """Reads a stream in pages of at most `cap` bytes, and compares them with the model."""
        expected = self.durable.content(self.durable.states[state.path])
        position, read = 0, b""
        while True:
            page = self._world.wait(self._world.reader.page(state, position, cap))
            read += page.data
            position = page.end
            if page.at_tail:
                break
            assert page.data
            if state.media.kind is Kind.JSON:
                assert page.data.endswith(b"},"), "a page was cut inside a value"
        assert read == expected, f"{state.path} has other bytes"

    def compare_all(self) -> None:
        """Compares the whole store with the whole model."""
        self.compare_usage()
        self._cursors.compare_owners()
        listed = {path for path, state in self.durable.states.items() if not state.soft_deleted}
        assert set(self._world.store.paths()) == listed
        ordered = self._world.store.ordered_paths("", "", len(listed) + 1)
        assert list(filter(None, ordered)) == sorted(listed)
        self._cursors.compare_documents(self.durable.subscriptions)
        for path, expected in self.durable.states.items():
            seen = self.compare_visible(path)
            assert seen is not None
            for field in COMPARED:
                assert getattr(seen, field) == getattr(expected, field), f"{path}: {field}"
            self.compare_bytes(seen, 3_000)
            self._compare_lifetime(seen)

    def _compare_lifetime(self, state: StreamState) -> None:
        world = self._world
        if state.lifetime == DATE:
            wall = world.now + world.wall_offset
            assert state.expired(world.now) == (wall >= (DATE.expires_at or 0))
        if state.lifetime.ttl is None or state.soft_deleted or state.readers:
            return
        ttl = state.lifetime.ttl * SECOND
        used = self._uses[state.incarnation]
        deadline = state.deadline()
        assert deadline is not None
        assert deadline <= used + ttl + ttl // 10, "a stream would live too long"
        if state.incarnation in self._lost:
            self._uses[state.incarnation] = state.touched_at  # the last use that became durable
        else:
            assert deadline >= used + ttl, "a stream would live too short"


def streams_of(changes: list[Change]) -> set[int]:
    """Returns the incarnations of the streams that changes alter."""
    return {change.incarnation for change in changes if not isinstance(change, SubscriptionChange)}
