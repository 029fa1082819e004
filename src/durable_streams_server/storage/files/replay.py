"""Replays the write-ahead log when a store is opened: applies the log's records to the states from the catalog.

Most records are one append each, and a log may hold half a million of them. So plain appends have a fast path here, which does the same as
`Ledger.apply` in one loop and with one look-up. All other changes go through the `apply` function that the caller passes.
"""

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

import msgspec

from ...protocol.limits import MARK_SPACING
from ...protocol.media import Kind
from ...protocol.state import Appended, Change, Created, StreamChange, StreamState
from ...protocol.subscriptions.changes import SubscriptionChange
from ...protocol.timeline import Timeline
from ..damage import Damaged
from ..recent import Recent, RecentCache
from .states import States
from .wal_reader import RecordRun

_DECODE: Final = msgspec.msgpack.Decoder(tuple[Change, ...]).decode
_ANY_SIZE: Final = 1 << 62


class _Target(NamedTuple):
    """The objects that change when a record appends to a stream.

    Attributes:
        state: the stream's state.
        recent: the stream's recent bytes.
        largest: maximum bytes of an append that is kept as one piece.
    """

    state: StreamState
    recent: Recent
    largest: int


class Replay:
    """Applies the records of a log in their order.

    Args:
        states: the newest states of streams.
        memory: the budget of recent bytes.
        timeline: the store's steady time.
        apply: applies any change. It raises KeyError if the change does not follow from the current states.
        aside: the incarnations of streams that a repair has put aside. Their records are skipped, and so are those of their forks.

    Attributes:
        added: the bytes of all plain appends so far.
    """

    def __init__(
        self,
        states: States,
        memory: RecentCache,
        timeline: Timeline,
        apply: Callable[[Change], None],
        aside: Iterable[int],
    ) -> None:
        self._states = states
        self._memory = memory
        self._timeline = timeline
        self._apply = apply
        self._aside = set(aside)
        self._dirty: dict[int, StreamState] = {}
        self._targets: dict[int, _Target] = {}  # of dirty streams
        # The plain appends that are not counted in `memory` and `timeline` yet: the stream of each, and the sum of their bytes.
        self._order: list[Recent] = []
        self._size = 0
        self.added = 0
        self._latest = 0

    def run(self, run: RecordRun, dirty: dict[int, StreamState]) -> int:
        """Applies a run of records.

        Args:
            run: the records.
            dirty: the dirty streams by incarnation, to which changed streams are added. A new dict means that a checkpoint was made after
                the previous run.

        Returns:
            the memory that plain appends take until a checkpoint has written their bytes. `apply` counts the memory of other changes itself.

        Raises:
            Damaged: a record cannot be read, or does not follow from the current states.
        """
        if dirty is not self._dirty:
            self._dirty = dirty
            self._targets.clear()
        cost = 0
        lsn = run.first - 1
        try:
            for payload in run.payloads:
                lsn += 1
                changes = _DECODE(payload)
                if len(changes) != 1 or not self._append(changes[0]):
                    cost += self._count_appends()
                    for change in changes:
                        self._apply_other(change)
        except (msgspec.DecodeError, KeyError) as error:
            raise Damaged(f"record {lsn} does not follow from the catalog: {error!r}") from None
        return cost + self._count_appends()

    def _append(self, change: Change) -> bool:
        """Applies a change if it is a plain append, and returns whether it is. A plain append has one piece and does not close the stream."""
        if type(change) is not Appended or change.closes:
            return False
        target = self._targets.get(change.incarnation) or self._find_target(change)
        size = len(change.data)
        if target is None or not 0 < size <= target.largest:
            return False
        state, recent, _ = target
        if change.path != state.path or change.start != state.tail:
            raise KeyError(change.path)
        state.append(change)
        state.visible_tail = tail = state.tail
        recent.add(tail, change.data)
        self._order.append(recent)
        self._size += size
        if change.at > self._latest:
            self._latest = change.at
        return True

    def _find_target(self, change: Appended) -> _Target | None:
        """Returns the target of a stream's appends; None if the append does not follow or its stream was put aside."""
        state = self._states.get(change.path)
        incarnation = change.incarnation
        if state is None or state.incarnation != incarnation or incarnation in self._aside:
            return None
        largest = MARK_SPACING if state.media.kind is Kind.JSON else _ANY_SIZE
        target = _Target(state, self._states.recent[incarnation], largest)
        self._targets[incarnation] = target
        self._dirty[incarnation] = state
        return target

    def _count_appends(self) -> int:
        """Adds the plain appends of this run to `memory` and `timeline`, and returns the memory that they take."""
        self._timeline.reach(self._latest)
        cost = self._memory.added(self._order, self._size)
        self.added += self._size
        self._order.clear()
        self._size = 0
        return cost

    def _apply_other(self, change: Change) -> None:
        if isinstance(change, SubscriptionChange):
            self._apply(change)
        elif _is_set_aside(change, self._aside):
            self._aside.add(change.incarnation)
        else:
            self._targets.pop(change.incarnation, None)  # the change may remove the stream
            self._apply(change)


def _is_set_aside(change: StreamChange, aside: set[int]) -> bool:
    """Whether a change is about a stream that was put aside, or creates a fork of such a stream."""
    origin = change.origin if isinstance(change, Created) else None
    return change.incarnation in aside or (origin is not None and origin.incarnation in aside)
