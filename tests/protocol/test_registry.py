"""Tests of the registry, which has one event for each stream that begins or ends, and none for itself."""

import json

import pytest

from durable_streams_server.errors import Conflict
from durable_streams_server.protocol.commands import Command, Delete
from durable_streams_server.protocol.decisions.decide import decide
from durable_streams_server.protocol.decisions.rules import Rules
from durable_streams_server.protocol.limits import MAX_POSITION
from durable_streams_server.protocol.registry import Registry
from durable_streams_server.protocol.state import Appended, StreamState, apply
from durable_streams_server.protocol.subscriptions.state import Subscriptions
from tests.requests import NOW, append, create, fork_of, of_streams

RULES = Rules(registry=Registry("/v1/stream/__registry__", "/v1/stream"))


class World:
    """Stream states, and the wire bytes of the registry."""

    def __init__(self) -> None:
        self.states: dict[str, StreamState] = {}
        self.wire = b""
        self.number = 0

    def run(self, command: Command) -> None:
        """Decides a command and applies the decision."""
        self.number += 2
        decision = decide(self.states, command, NOW, self.number, RULES, Subscriptions())
        for change in of_streams(decision.changes):
            apply(self.states, change)
            if isinstance(change, Appended) and change.path == "/v1/stream/__registry__":
                self.wire += change.data

    def events(self) -> list[tuple[str, str]]:
        """Returns the operation and key of each event."""
        listed = json.loads(b"[" + self.wire[:-1] + b"]")
        return [(event["headers"]["operation"], event["key"]) for event in listed]


def test_each_create_and_delete_is_listed_once() -> None:
    world = World()
    world.run(create("/v1/stream/a", "text/plain"))
    world.run(create("/v1/stream/a", "text/plain"))
    world.run(append("/v1/stream/a", b"x", "text/plain"))
    world.run(create("/elsewhere"))
    world.run(Delete("/v1/stream/a"))
    assert world.events() == [("insert", "a"), ("insert", "/elsewhere"), ("delete", "a")]


def test_registry_insert_event_describes_the_created_stream() -> None:
    world = World()
    world.run(create("/v1/stream/a", "text/plain"))
    (event,) = json.loads(b"[" + world.wire[:-1] + b"]")
    assert event == {
        "type": "stream",
        "key": "a",
        "value": {"path": "a", "contentType": "text/plain", "createdAt": NOW // 1000},
        "headers": {"operation": "insert", "timestamp": "2025-06-15T15:06:40.000Z"},
    }


def test_soft_delete_is_listed_and_the_later_removal_is_not() -> None:
    world = World()
    world.run(create("/v1/stream/a"))
    world.run(create("/v1/stream/b", None, fork=fork_of("/v1/stream/a")))
    world.run(Delete("/v1/stream/a"))
    world.run(Delete("/v1/stream/b"))
    assert world.events() == [("insert", "a"), ("insert", "b"), ("delete", "a"), ("delete", "b")]


@pytest.mark.parametrize(
    ("command", "accepted"),
    [
        (create("/r", "application/json"), True),
        (create("/r", "text/plain"), False),
        (create("/r", "application/json", closes=True), False),
    ],
)
def test_only_an_open_json_stream_is_accepted_as_registry(command: Command, accepted: bool) -> None:
    states: dict[str, StreamState] = {}
    assert Registry("/r").accepts(states)
    decision = decide(states, command, NOW, 1, Rules(), Subscriptions())
    for change in of_streams(decision.changes):
        apply(states, change)
    assert Registry("/r").accepts(states) is accepted


def test_create_is_refused_if_the_registry_is_full() -> None:
    world = World()
    world.run(create("/v1/stream/a"))
    world.states["/v1/stream/__registry__"].tail = MAX_POSITION
    with pytest.raises(Conflict) as caught:
        world.run(create("/v1/stream/b"))
    assert caught.value.code == "STREAM_FULL"
    world.run(append("/v1/stream/a", b"x"))


@pytest.mark.parametrize("now", [-(10**18), 10**18])
def test_registry_event_accepts_any_clock_time(now: int) -> None:
    decide({}, create("/v1/stream/a"), now, 1, RULES, Subscriptions())
