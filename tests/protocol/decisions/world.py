"""Stream states for tests of decisions, and conditions for requests."""

import pytest

from durable_streams_server.errors import PreconditionFailed, StreamError
from durable_streams_server.protocol.commands import Command
from durable_streams_server.protocol.decisions.decide import decide
from durable_streams_server.protocol.decisions.outcomes import Decision
from durable_streams_server.protocol.decisions.rules import Rules
from durable_streams_server.protocol.preconditions import Conditions, tag_of
from durable_streams_server.protocol.state import Created, StreamState, apply
from durable_streams_server.protocol.subscriptions.state import Subscriptions
from tests.requests import NOW, of_streams

JSON = "application/json"


class World:
    """Stream states to which each decision is applied and published at once.

    Attributes:
        states: the states by path.
        rules: the configuration that decisions use.
        last: the greatest incarnation so far.
    """

    def __init__(self, rules: Rules | None = None) -> None:
        self.states: dict[str, StreamState] = {}
        self.rules = rules or Rules()
        self.last = 0

    def decide(self, command: Command, now: int = NOW) -> Decision:
        """Decides a command, applies the decision, and returns it."""
        decision = decide(
            self.states, command, now, max(self.last + 1, now), self.rules, Subscriptions()
        )
        for change in of_streams(decision.changes):
            if isinstance(change, Created):
                self.last = max(self.last, change.incarnation)
            state = apply(self.states, change)
            state.publish(change)
        return decision

    def refused(
        self, command: Command, kind: type[StreamError], code: str, now: int = NOW
    ) -> StreamError:
        """Asserts that a command is refused with an error class and code, and returns the error."""
        with pytest.raises(kind) as caught:
            self.decide(command, now)
        assert caught.value.code == code
        return caught.value


ANY = (b"*",)


STALE = Conditions((b'"stale"',), None)


ABSENT = Conditions(None, ANY)


PRESENT = Conditions(ANY, None)


def tag_condition(world: World, path: str = "/a") -> Conditions:
    """Returns an If-Match condition with the present tag of a stream."""
    return Conditions((tag_of(world.states[path]),), None)


def assert_precondition_fails(world: World, command: Command) -> StreamError:
    """Asserts that a command fails its precondition and changes nothing, and returns the error."""
    before = {path: (state.tail, state.closed) for path, state in world.states.items()}
    refusal = world.refused(command, PreconditionFailed, "PRECONDITION_FAILED")
    assert {path: (state.tail, state.closed) for path, state in world.states.items()} == before
    return refusal
