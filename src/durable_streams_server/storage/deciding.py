"""The base class of stores that run `decide` in this process.

It keeps their configuration and listeners, and retries a worker's command when the store has no room for the event of the next wake.
"""

import msgspec

from ..protocol.commands import Command
from ..protocol.decisions.outcomes import Outcome
from ..protocol.decisions.quota import Quota
from ..protocol.decisions.rules import Rules
from ..protocol.limits import MAX_POSITION
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
        quota: the limits of streams and bytes.
    """

    states: Lookup

    def __init__(
        self,
        max_producers: int,
        timeline: Timeline,
        subscriptions: Subscriptions,
        quota: Quota = Quota(),  # noqa: B008  (the default is immutable)
    ) -> None:
        self.timeline = timeline
        self.subscriptions = subscriptions
        self._rules = Rules(max_producers, timeline=timeline)
        self._listeners = Listeners()
        self.limit(quota)

    def configure(self, registry: Registry | None, stream_root: str = DEFAULT_STREAM_ROOT) -> None:
        if registry is not None and not registry.accepts(self.states):
            raise ValueError(f"the stream at {registry.path} cannot serve as the registry")
        self._rules = msgspec.structs.replace(self._rules, registry=registry)
        self.subscriptions.move(stream_root)

    def limit(self, quota: Quota) -> None:
        self.quota = quota
        self._shared_quota = quota if quota.is_shared else None
        most = MAX_POSITION if quota.max_stream_bytes is None else quota.max_stream_bytes
        self._rules = msgspec.structs.replace(self._rules, max_stream_bytes=min(most, MAX_POSITION))

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
