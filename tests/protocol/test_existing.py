"""Checks that a stream exists, for writers and for readers."""

import pytest

from durable_streams_server.errors import NotFound
from durable_streams_server.protocol.commands import Delete
from durable_streams_server.protocol.decisions.decide import decide
from durable_streams_server.protocol.decisions.rules import Rules
from durable_streams_server.protocol.existing import require_existing, require_visible
from durable_streams_server.protocol.state import StreamState, apply
from durable_streams_server.protocol.subscriptions.state import Subscriptions
from tests.requests import NOW, create, of_streams


def test_readers_see_a_delete_only_once_it_is_durable() -> None:
    states: dict[str, StreamState] = {}
    nobody = Subscriptions()
    for change in of_streams(decide(states, create("/a"), NOW, 1, Rules(), nobody).changes):
        state = apply(states, change)
    for change in of_streams(decide(states, Delete("/a"), NOW, 2, Rules(), nobody).changes):
        apply(states, change)
    with pytest.raises(NotFound):
        require_existing(state, NOW)
    assert require_visible(state, NOW) is state
    state.publish(change)
    with pytest.raises(NotFound):
        require_visible(state, NOW)
