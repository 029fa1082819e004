"""Tests of rules that hold for every command: the range of the clock, and writes to the registry."""

import pytest

from durable_streams_server.errors import MethodNotAllowed
from durable_streams_server.protocol.commands import Command, Delete
from durable_streams_server.protocol.decisions.decide import decide
from durable_streams_server.protocol.decisions.rules import Rules
from durable_streams_server.protocol.limits import MAX_TIME
from durable_streams_server.protocol.registry import Registry
from durable_streams_server.protocol.state import Appended, Created
from durable_streams_server.protocol.subscriptions.state import Subscriptions
from tests.protocol.decisions.world import World
from tests.requests import append, create

JSON = "application/json"


@pytest.mark.parametrize(("now", "kept"), [(-(10**30), 0), (10**30, MAX_TIME)])
def test_clock_out_of_range_is_clamped(world: World, now: int, kept: int) -> None:
    decision = decide({}, create("/a", body=b"x"), now, 7, Rules(), Subscriptions())
    begun, first = decision.changes
    assert isinstance(begun, Created)
    assert isinstance(first, Appended)
    assert (begun.at, first.at) == (kept, kept)


@pytest.mark.parametrize("command", [create("/r", JSON), append("/r", b"1", JSON), Delete("/r")])
def test_client_write_to_the_registry_is_refused(command: Command) -> None:
    world = World(Rules(registry=Registry("/r")))
    world.decide(create("/a"))
    error = world.refused(command, MethodNotAllowed, "METHOD_NOT_ALLOWED")
    assert error.headers == ((b"allow", b"GET, HEAD, OPTIONS"),)
