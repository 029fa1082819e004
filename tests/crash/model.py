"""The simulator's model: the states and bytes that a sequence of records makes."""

from durable_streams_server.protocol.state import (
    Appended,
    Change,
    Created,
    Removed,
    StreamState,
    apply,
)
from durable_streams_server.protocol.subscriptions.changes import SubscriptionChange
from durable_streams_server.protocol.subscriptions.state import Subscriptions

ROOT = ""  # the root that stream paths in subscriptions are relative to


class Model:
    """Applies records to plain dictionaries, without a disk.

    Attributes:
        states: the state of each stream, by path.
        subscriptions: the subscriptions and their wakes.
        bytes: the bytes of each stream without those of its ancestors, by incarnation.
    """

    def __init__(self) -> None:
        self.states: dict[str, StreamState] = {}
        self.subscriptions = Subscriptions(ROOT)
        self.bytes: dict[int, bytearray] = {}

    def apply(self, changes: list[Change]) -> None:
        """Applies the changes of one record."""
        for change in changes:
            if isinstance(change, SubscriptionChange):
                self.subscriptions.apply(change)
                continue
            state = apply(self.states, change)
            if isinstance(change, Created):
                self.bytes[change.incarnation] = bytearray()
            elif isinstance(change, Appended):
                assert change.start == state.base + len(self.bytes[change.incarnation])
                self.bytes[change.incarnation] += change.data
            elif isinstance(change, Removed):
                del self.bytes[change.incarnation]

    def content(self, state: StreamState) -> bytes:
        """Returns a stream's bytes, which begin with those of its ancestors."""
        owners = {other.incarnation: other for other in self.states.values()}
        parts = []
        for incarnation, start, end in state.extents(0, state.tail):
            base = owners[incarnation].base
            parts.append(self.bytes[incarnation][start - base : end - base])
        return b"".join(parts)
