"""Recovers a store when it is opened: restores the states in the catalog, and applies the newer records of the write-ahead log.

The records are applied in runs. A checkpoint is made between two runs whenever too much memory is dirty.
"""

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from ...protocol.state import Appended, Change, Created, Touched
from ...protocol.subscriptions.changes import SubscriptionChange
from ...protocol.subscriptions.state import Subscriptions
from ...protocol.timeline import Timeline
from ..damage import Damaged
from ..recent import INSIDE
from ..store import new_opening
from . import held
from .disk import Disk
from .ledger import Ledger
from .logs import Logs
from .offline.wal_reader import lost_header
from .replay import Replay
from .wal import Wal

#: Factor by which the usual limits on dirty states and bytes are raised while records are replayed, because nothing else takes memory then.
#: The log of a running server stays below the raised limits, so a start need not wait for a checkpoint. The first checkpoint begins as soon
#: as an event loop owns the store.
_WHILE_STARTING: Final = 2


def restore_subscriptions(documents: Mapping[str, bytes]) -> Subscriptions:
    """Returns the subscriptions that the catalog's documents describe.

    Raises:
        Damaged: a document cannot be decoded.
    """
    subscriptions = Subscriptions(opening=new_opening())
    for name, document in documents.items():
        if held.is_held(name):
            continue
        try:
            subscriptions.restore(name, document)
        except msgspec.DecodeError as error:
            raise Damaged(f"catalog: the document {name!r} is damaged: {error}") from None
    return subscriptions


class Recovery:
    """Brings a store's states up to date with the records of the write-ahead log that are newer than the catalog.

    Args:
        disk: the data directory.
        wal: the store's write-ahead log.
        logs: the store's logs.
        ledger: the store's states, as the catalog has them.
        timeline: the store's steady time.
        subscriptions: the store's subscriptions, as the catalog has them.
    """

    def __init__(
        self,
        disk: Disk,
        wal: Wal,
        logs: Logs,
        ledger: Ledger,
        timeline: Timeline,
        subscriptions: Subscriptions,
    ) -> None:
        self._disk = disk
        self._wal = wal
        self._logs = logs
        self._ledger = ledger
        self._states = ledger.states
        self._timeline = timeline
        self._subscriptions = subscriptions

    def restore_held(self, documents: Mapping[str, bytes]) -> None:
        """Restores the bytes that the catalog holds for logs that could not grow. They are dirty, so the next checkpoint retries the write."""
        ledger = self._ledger
        for name in filter(held.is_held, documents):
            document = held.decode(documents[name])
            state = self._states.get(document.path)
            if state is None or state.incarnation != held.incarnation_of(name):
                continue
            recent = self._states.recent[state.incarnation]
            for end, data in document.pieces:
                ledger.memory.add(recent, end, data)
            end = document.pieces[-1][0] & ~INSIDE
            ledger.stored += end - state.tail
            state.tail = state.visible_tail = end
            ledger.held[state.incarnation] = state.tail
            ledger.dirty[state.incarnation] = state
            ledger.to_try.add(state.incarnation)

    def run(self, make_checkpoint: Callable[[], None] | None) -> None:
        """Applies the records that are newer than the catalog.

        Args:
            make_checkpoint: makes a checkpoint when too much is dirty; None if the store is opened for reading only.

        Raises:
            Damaged: acknowledged data cannot be read back.
            OSError: the disk failed.
        """
        lsn = self._ledger.meta.lsn
        if (headless := lost_header(self._disk, lsn)) is not None:
            raise Damaged(f"{headless}: its header is lost")  # otherwise it would count as free
        self._states.is_replaying = True
        is_first = lsn == 0
        begun = self._replay(make_checkpoint)
        if is_first and (stray := self._logs.find_stray(begun)) is not None:
            raise Damaged(f"catalog: it is lost, nothing tells whose log {stray} is")
        self._states.end_replay()
        self._extend_lifetimes()

    def apply(self, change: Change) -> None:
        """Applies a change that was decided before the restart, and shows it to readers.

        Raises:
            KeyError: the change does not follow from the state of its stream.
        """
        self._check_follows(change)
        if isinstance(change, SubscriptionChange):
            self._timeline.reach(self._subscriptions.reached(change))
        elif isinstance(change, Appended | Created | Touched):
            self._timeline.reach(change.at)
        self._ledger.publish([self._ledger.apply(change)])

    def _replay(self, make_checkpoint: Callable[[], None] | None) -> set[int]:
        """Replays the records that are newer than the catalog. If the catalog is empty, returns the incarnations that the records create."""
        ledger = self._ledger
        begun: set[int] = set()
        is_first = ledger.meta.lsn == 0

        def apply(change: Change) -> None:
            self.apply(change)
            if is_first and isinstance(change, Created):
                begun.add(change.incarnation)

        replay = Replay(self._states, ledger.memory, self._timeline, apply, ledger.meta.aside)
        for run in self._wal.recover_runs(ledger.meta.lsn):
            cost = replay.run(run, ledger.dirty)
            ledger.unflushed += cost  # not in one statement, because `run` may change `unflushed`
            if make_checkpoint is not None and ledger.obstacle is None and self._is_too_dirty:
                self._extend_lifetimes()
                make_checkpoint()
        ledger.stored += replay.added
        return begun

    @property
    def _is_too_dirty(self) -> bool:
        ledger = self._ledger
        return (
            ledger.unflushed > _WHILE_STARTING * ledger.max_unflushed
            or len(ledger.dirty) > _WHILE_STARTING * ledger.max_dirty
            or self._states.tally.fresh > _WHILE_STARTING * ledger.max_fresh_producers
        )

    def _check_follows(self, change: Change) -> None:
        """Refuses a change that does not follow from the state of its stream, such as one from another directory's log.

        Raises:
            KeyError: the change does not follow.
        """
        if isinstance(change, SubscriptionChange | Touched):
            return
        state = self._states.get(change.path)
        if isinstance(change, Created):
            follows = state is None
        else:
            follows = state is not None and state.incarnation == change.incarnation
        if isinstance(change, Appended) and state is not None:
            follows = follows and change.start == state.tail
        if not follows:
            raise KeyError(change.path)

    def _extend_lifetimes(self) -> None:
        """Extends the sliding lifetime of each replayed stream, because later reads of the stream may not have been made durable."""
        for state in self._ledger.dirty.values():
            state.expect_uses_before_a_restart()
