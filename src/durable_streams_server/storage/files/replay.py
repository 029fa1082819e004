"""The replay of the write-ahead log at a start: its records, applied to the states that the catalog has.

Most records are one append each, and a log may hold half a million of them. So a plain append has a way of its own here, which
does what `FileStore` does with any other change, in one loop and with one look-up. Everything else goes through the store.
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
    """Where a stream's appends go.

    Attributes:
        state: the stream's.
        recent: its newest bytes.
        largest: bytes of an append that is one piece.
    """

    state: StreamState
    recent: Recent
    largest: int


class Replay:
    """Applies the records of a log, in their order.

    Args:
        states: the streams that they change.
        memory: of their newest bytes.
        timeline: the store's.
        apply: applies any change to the store; raises a KeyError if it was not decided on the states that there are.
        aside: streams that a repair has put aside. Their records are passed over, and those of streams that fork from them.
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
        self._targets: dict[int, _Target] = {}  # whose state is dirty
        # Of plain appends that only their streams know of yet.
        self._order: list[Recent] = []
        self._size = 0
        self._latest = 0

    def run(self, run: RecordRun, dirty: dict[int, StreamState]) -> int:
        """Applies some records.

        Args:
            run: the records.
            dirty: gains the streams that they change; empty if a checkpoint was made since the run before.

        Returns:
            the memory that plain appends take, until a checkpoint has brought their bytes to the logs. `apply` counts the others.

        Raises:
            Damaged: a record cannot be read, or was not decided on the states that there are.
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
                    cost += self._settle()
                    for change in changes:
                        self._apply_any(change)
        except (msgspec.DecodeError, KeyError) as error:
            raise Damaged(f"record {lsn} does not follow from the catalog: {error!r}") from None
        return cost + self._settle()

    def _append(self, change: Change) -> bool:
        """Applies a change if it is a plain append: bytes that are one piece, and no close. Returns whether it is."""
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
        """Finds where a stream's appends go; None if `_apply_any` must say what is to be done with this one."""
        state = self._states.get(change.path)
        incarnation = change.incarnation
        if state is None or state.incarnation != incarnation or incarnation in self._aside:
            return None
        largest = MARK_SPACING if state.media.kind is Kind.JSON else _ANY_SIZE
        target = _Target(state, self._states.recent[incarnation], largest)
        self._targets[incarnation] = target
        self._dirty[incarnation] = state
        return target

    def _settle(self) -> int:
        """Tells everybody else of the plain appends, and returns the memory that they take."""
        self._timeline.reach(self._latest)
        cost = self._memory.added(self._order, self._size)
        self._order.clear()
        self._size = 0
        return cost

    def _apply_any(self, change: Change) -> None:
        if isinstance(change, SubscriptionChange):
            self._apply(change)
        elif _concerns(change, self._aside):
            self._aside.add(change.incarnation)
        else:
            self._targets.pop(change.incarnation, None)  # it may end here
            self._apply(change)


def _concerns(change: StreamChange, aside: set[int]) -> bool:
    """Whether a change is about a stream that a repair has put aside, or begins a fork of one."""
    origin = change.origin if isinstance(change, Created) else None
    return change.incarnation in aside or (origin is not None and origin.incarnation in aside)
