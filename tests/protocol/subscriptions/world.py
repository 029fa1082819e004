"""Streams and subscriptions in memory, for tests of decisions about subscriptions."""

from collections.abc import Sequence
from typing import Any, cast

import msgspec
import pytest

from durable_streams_server.errors import StreamError
from durable_streams_server.protocol.commands import Command
from durable_streams_server.protocol.decisions.decide import decide
from durable_streams_server.protocol.decisions.outcomes import Decision
from durable_streams_server.protocol.decisions.rules import Rules
from durable_streams_server.protocol.offsets import Offset, parse
from durable_streams_server.protocol.state import Appended, Created, StreamState, apply
from durable_streams_server.protocol.subscriptions.changes import (
    Subscribed,
    SubscriptionChange,
    Wake,
)
from durable_streams_server.protocol.subscriptions.commands import (
    Acknowledge,
    Claim,
    Grant,
    Subscribe,
    parse_subscribe,
)
from durable_streams_server.protocol.subscriptions.outcomes import SubscribeOutcome
from durable_streams_server.protocol.subscriptions.state import Subscriptions
from durable_streams_server.protocol.subscriptions.subscription import Subscription
from durable_streams_server.protocol.subscriptions.views import View
from tests.requests import NOW, SECOND, append, create

ROOT = "/v1/stream"
A, B, C = f"{ROOT}/events/a", f"{ROOT}/events/b", f"{ROOT}/events/c"
POOL = f"{ROOT}/wake/pool"
HOOK = "https://worker.example/hooks"
JSON = "application/json"
LEASE = 30 * SECOND
OPENING = "f00d"


def subscribe(
    id_: str = "s", owner: str | None = None, owner_limit: int | None = None, **fields: Any
) -> Subscribe:
    """Returns the command that creates a subscription.

    By default it is a pull-wake with the pattern `events/*` and the wake stream `wake/pool`.
    """
    if "type" not in fields:
        fields["type"] = "pull-wake"
    if fields["type"] == "pull-wake":
        fields.setdefault("wake_stream", "wake/pool")
    else:
        fields.setdefault("webhook", {"url": HOOK})
    if "streams" not in fields:
        fields.setdefault("pattern", "events/*")
    return parse_subscribe(id_, msgspec.json.encode(fields), ROOT, owner, owner_limit)


class World:
    """The newest states of streams and subscriptions, and the time.

    Attributes:
        states: the states of streams by path.
        subscriptions: the states of subscriptions.
        rules: the configuration that decisions use.
        now: microseconds of steady time.
        last: the greatest incarnation so far.
        wire: the wire bytes by incarnation.
    """

    def __init__(self, rules: Rules | None = None) -> None:
        self.states: dict[str, StreamState] = {}
        self.subscriptions = Subscriptions(opening=OPENING)
        self.rules = rules or Rules()
        self.now = NOW
        self.last = 0
        self.wire: dict[int, bytes] = {}

    def decide(self, command: Command) -> Decision:
        """Decides a command, applies the decision, and returns it."""
        decision = decide(
            self.states,
            command,
            self.now,
            max(self.last + 1, self.now),
            self.rules,
            self.subscriptions,
        )
        for change in decision.changes:
            if isinstance(change, SubscriptionChange):
                if isinstance(change, Subscribed):
                    self.last = max(self.last, change.incarnation)
                self.subscriptions.apply(change)
                continue
            if isinstance(change, Created):
                self.last = max(self.last, change.incarnation)
            if isinstance(change, Appended):
                assert change.start == self.states[change.path].tail
                held = self.wire.get(change.incarnation, b"")
                self.wire[change.incarnation] = held + change.data
            apply(self.states, change).publish(change)
        return decision

    def do(self, *commands: Command) -> None:
        """Decides several commands in order."""
        for command in commands:
            self.decide(command)

    def refused(self, command: Command, kind: type[StreamError], code: str) -> StreamError:
        """Asserts that a command is refused with an error class and code, and returns the error."""
        with pytest.raises(kind) as caught:
            self.decide(command)
        assert caught.value.code == code
        return caught.value

    def forward(self, microseconds: int) -> None:
        """Moves the clock forward."""
        self.now += microseconds

    # -- shortcuts ---------------------------------------------------------

    def streams(self, *paths: str) -> None:
        """Creates JSON streams."""
        self.do(*(create(path, JSON) for path in paths))

    def append_to(self, *paths: str) -> Decision:
        """Appends one JSON value to each stream, and returns the last decision."""
        decisions = [self.decide(append(path, b"1", JSON)) for path in paths]
        return decisions[-1]

    def subscribe(self, id_: str = "s", **fields: Any) -> Subscription:
        """Creates a subscription, and returns its state."""
        outcome = self.decide(subscribe(id_, **fields)).outcome
        assert isinstance(outcome, SubscribeOutcome)
        return self.subscription(id_)

    def subscription(self, id_: str = "s") -> Subscription:
        """Returns the state of a subscription."""
        found = self.subscriptions.get(id_)
        assert found is not None
        return found

    def wake(self, id_: str = "s") -> Wake:
        """Returns the wake in flight."""
        wake = self.subscription(id_).wake
        assert wake is not None
        return wake

    def claim(self, id_: str = "s", worker: str = "w") -> View:
        """Claims the wake in flight for a worker."""
        return cast(View, self.decide(Claim(id_, worker)).outcome)

    def grant(self, id_: str = "s") -> Grant:
        """Returns the permission to act on the newest wake."""
        subscription = self.subscription(id_)
        wake_id = "" if subscription.wake is None else subscription.wake.wake_id
        return Grant(id_, subscription.incarnation, subscription.generation, wake_id)

    def acknowledging(self, *acks: tuple[str, str], id_: str = "s", done: bool = False) -> Any:
        """Returns a request that acknowledges offsets for the wake in flight."""
        found = tuple((path, parse(offset)) for path, offset in acks)
        grant = self.grant(id_)
        return Acknowledge(grant, grant.generation, self.wake(id_).wake_id, found, done)

    def tail(self, path: str) -> str:
        """Returns the offset of a stream's tail."""
        state = self.states[path]
        return state.name(state.tail)

    def due(self, id_: str = "s") -> dict[str, int]:
        """Returns the positions of kept cursors by path."""
        return {path: offset.position for path, offset in self.subscription(id_).due.items()}

    def events(self, path: str = POOL) -> Sequence[Any]:
        """Returns the values of a JSON stream."""
        wire = self.wire.get(self.states[path].incarnation, b"")
        return cast("Sequence[Any]", msgspec.json.decode(b"[" + wire[:-1] + b"]"))

    def announced(self, path: str = POOL) -> list[tuple[str, str, int]]:
        """Returns the subscription, stream and generation of each event on a wake stream."""
        return [
            (each["subscription_id"], each["stream"], each["generation"])
            for each in self.events(path)
        ]


__all__ = [
    "HOOK",
    "JSON",
    "LEASE",
    "OPENING",
    "POOL",
    "ROOT",
    "A",
    "B",
    "C",
    "Offset",
    "World",
    "subscribe",
]
