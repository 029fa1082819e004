"""The reference store, which keeps streams in memory. It can be read as a specification of what every store does.

In memory a decision counts as durable as soon as it is applied, so the newest state and the visible state are the same.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from ..errors import NotFound, StorageFull, StreamError
from ..protocol.commands import Command, known_marks
from ..protocol.decisions.decide import decide
from ..protocol.decisions.outcomes import Outcome
from ..protocol.decisions.quota import Quota, Usage
from ..protocol.limits import DEFAULT_MAX_PRODUCERS, MARK_SPACING, MAX_CLOCK_INCARNATION
from ..protocol.offsets import next_incarnation
from ..protocol.state import Appended, Change, Created, Removed, StreamState, apply
from ..protocol.subscriptions.changes import Subscribed, SubscriptionChange
from ..protocol.subscriptions.commands import Upkeep
from ..protocol.subscriptions.state import Subscriptions
from ..protocol.timeline import Timeline
from .blocks import Blocks
from .deadlines import Deadlines
from .deciding import DecidingStore
from .store import Marks, Published, new_opening
from .ticket import Ticket


class MemoryStore(DecidingStore):
    """Keeps streams for as long as the process lives.

    Args:
        max_producers: maximum idempotent producers per stream. The store refuses a further producer with 429.
        quota: the limits of streams and bytes.
    """

    def __init__(
        self,
        *,
        max_producers: int = DEFAULT_MAX_PRODUCERS,
        quota: Quota = Quota(),  # noqa: B008  (the default is immutable)
    ) -> None:
        super().__init__(max_producers, Timeline(), Subscriptions(opening=new_opening()), quota)
        self._held_bytes = 0
        self.states: dict[str, StreamState] = {}
        self._blocks: dict[int, Blocks] = {}
        self._deadlines = Deadlines(self.timeline)
        self._last_incarnation = 0

    def execute(self, command: Command, now: int) -> Ticket[Outcome]:
        try:
            last = self._last_incarnation
            in_order = last < now <= MAX_CLOCK_INCARNATION  # False only if the clock was set
            incarnation = now if in_order else next_incarnation(last, now)
            decision = decide(
                self.states, command, now, incarnation, self._rules, self.subscriptions
            )
            if self._shared_quota is not None:
                self._shared_quota.admit(
                    command, decision.changes, len(self.states), self._held_bytes
                )
        except StorageFull as refusal:
            if self._rules.announces and isinstance(command, Upkeep):
                return self._execute_without_event(command, now)
            return Ticket.failed(refusal)
        except StreamError as refusal:
            return Ticket.failed(refusal)
        changes = decision.changes
        if changes:
            if len(changes) == 1:  # usually an append; a comprehension would cost it one more call
                published = [self._apply(changes[0], command)]
            else:
                published = [self._apply(change, command) for change in changes]
            self._listeners.tell(published)
        return Ticket(True, decision.outcome)

    @property
    def usage(self) -> Usage:
        return Usage(len(self.states), self._held_bytes)

    def find(self, path: str) -> Ticket[StreamState | None]:
        return Ticket.of(self.states.get(path))

    def read_bytes(self, incarnation: int, start: int, end: int) -> Ticket[bytes]:
        blocks = self._blocks.get(incarnation)
        return _gone() if blocks is None else Ticket.of(blocks.read(start, end))

    def marks(self, incarnation: int, position: int) -> Ticket[Marks]:
        blocks = self._blocks.get(incarnation)
        return _gone() if blocks is None else Ticket.of(blocks.marks(position))

    def touch(self, state: StreamState, now: int) -> None:
        state.touch(now)

    def due(self, now: int) -> Sequence[tuple[str, int]]:
        return self._deadlines.due(now)

    def next_deadline(self) -> int | None:
        return self._deadlines.next()

    def paths(self) -> Iterator[str]:
        for path in list(self.states):
            state = self.states.get(path)
            if state is not None and not state.soft_deleted:
                yield path

    def close(self) -> None:
        self._listeners.clear()

    def _apply(self, change: Change, command: Command) -> Published:
        if isinstance(change, Appended):
            state = apply(self.states, change)
            data = change.data
            size = len(data)
            marks = known_marks(command, data) if size > MARK_SPACING else None
            self._blocks[change.incarnation].append(data, marks)
            self._held_bytes += size
            state.publish(change)
            return Published(change, state)
        if isinstance(change, SubscriptionChange):
            if isinstance(change, Subscribed):
                self._last_incarnation = max(self._last_incarnation, change.incarnation)
            self.subscriptions.apply(change)
            return Published(change, None)
        state = apply(self.states, change)
        if isinstance(change, Created):
            self._last_incarnation = max(self._last_incarnation, change.incarnation)
            self._blocks[change.incarnation] = Blocks(state.base, state.media.kind)
            state.timeline = self.timeline
            self._deadlines.add(state)
        elif isinstance(change, Removed):
            self._held_bytes -= len(self._blocks.pop(change.incarnation))
        state.publish(change)
        return Published(change, state)


def _gone() -> Ticket[Any]:
    """Returns a failed ticket for a read whose stream was deleted while the read waited for its turn."""
    return Ticket.failed(NotFound("there is no stream at this path"))
