"""The base class of stores that run `decide` in this process.

It keeps their configuration and listeners, and retries a worker's command when the store has no room for the event of the next wake.
"""

import msgspec

from ..protocol.commands import Command
from ..protocol.decisions.outcomes import Outcome
from ..protocol.decisions.rules import Rules
from ..protocol.names import DEFAULT_STREAM_ROOT
from ..protocol.registry import Registry
from ..protocol.state import Lookup
from ..protocol.subscriptions.state import Subscriptions
from ..protocol.timeline import Timeline
from .store import Listener, Listeners, Store
from .ticket import Ticket


class DecidingStore(Store):
    """A store that runs `decide` in this process, on states that it keeps in memory or loads.

    Args:
        max_producers: maximum idempotent producers per stream.
        timeline: the store's steady time.
        subscriptions: the newest states of all subscriptions.
    """

    states: Lookup

    def __init__(
        self, max_producers: int, timeline: Timeline, subscriptions: Subscriptions
    ) -> None:
        self.timeline = timeline
        self.subscriptions = subscriptions
        self._rules = Rules(max_producers, timeline=timeline)
        self._listeners = Listeners()

    def configure(self, registry: Registry | None, stream_root: str = DEFAULT_STREAM_ROOT) -> None:
        if registry is not None and not registry.accepts(self.states):
            raise ValueError(f"the stream at {registry.path} cannot serve as the registry")
        self._rules = Rules(self._rules.max_producers, registry, self.timeline)
        self.subscriptions.move(stream_root)

    def listen(self, listener: Listener) -> None:
        self._listeners.add(listener)

    def ignore(self, listener: Listener) -> None:
        self._listeners.remove(listener)

    def _execute_without_event(self, command: Command, now: int) -> Ticket[Outcome]:
        """Executes a worker's command again, without the event of the next wake, because the store has no room for the event."""
        rules = self._rules
        self._rules = msgspec.structs.replace(rules, announces=False)
        try:
            return self.execute(command, now)
        finally:
            self._rules = rules
