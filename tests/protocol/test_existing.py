"""Tests of the checks that a stream exists, for writers and for readers."""

import pytest

from durable_streams_server.errors import BadRequest, Gone, NotFound, StreamDamaged
from durable_streams_server.protocol.commands import Delete
from durable_streams_server.protocol.decisions.decide import decide
from durable_streams_server.protocol.decisions.rules import Rules
from durable_streams_server.protocol.existing import (
    require_existing,
    require_visible,
    visible_position,
)
from durable_streams_server.protocol.lifetime import FOREVER, Lifetime
from durable_streams_server.protocol.media import parse_media_type
from durable_streams_server.protocol.offsets import Offset
from durable_streams_server.protocol.state import StreamState, apply
from durable_streams_server.protocol.subscriptions.state import Subscriptions
from tests.requests import NOW, SECOND, create, of_streams


def state(media: str = "text/plain", lifetime: Lifetime = FOREVER) -> StreamState:
    """Returns a stream with five visible bytes."""
    made = StreamState("/a", 7, parse_media_type(media), lifetime, NOW)
    made.tail = made.visible_tail = 5
    return made


def test_missing_stream_is_not_found() -> None:
    for require in (require_existing, require_visible):
        with pytest.raises(NotFound):
            require(None, NOW)


def test_expired_stream_is_not_found_or_gone_if_it_has_forks() -> None:
    expired = state(lifetime=Lifetime(ttl=1))
    assert require_existing(expired, NOW) is expired
    with pytest.raises(NotFound):
        require_existing(expired, NOW + SECOND)
    expired.children = 1
    with pytest.raises(Gone):
        require_visible(expired, NOW + SECOND)


def test_damaged_stream_is_refused() -> None:
    damaged = state()
    damaged.damage = "bit-rot"
    for require in (require_existing, require_visible):
        with pytest.raises(StreamDamaged):
            require(damaged, NOW)


def test_offset_one_byte_past_a_text_stream_means_its_end() -> None:
    assert visible_position(state(), Offset(7, 5)) == 5
    assert visible_position(state(), Offset(7, 6)) == 5
    with pytest.raises(BadRequest):
        visible_position(state(), Offset(7, 7))


def test_offset_one_byte_past_a_json_stream_is_refused() -> None:
    with pytest.raises(BadRequest):
        visible_position(state("application/json"), Offset(7, 6))


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
