"""Tests of the states that a repair loads from the catalog when they are first needed."""

import pytest

from durable_streams_server.protocol.lifetime import FOREVER
from durable_streams_server.protocol.media import parse_media_type
from durable_streams_server.protocol.state import StreamState
from durable_streams_server.storage.files.offline.loaded_states import LoadedStates


def state(incarnation: int = 5) -> StreamState:
    return StreamState("/a", incarnation, parse_media_type("text/plain"), FOREVER, 0)


def test_second_lookup_of_stream_state_does_not_load_it_again() -> None:
    loads: list[str] = []

    def load(path: str) -> StreamState | None:
        loads.append(path)
        return state() if path == "/a" else None

    states = LoadedStates(load)
    assert not states.is_loaded("/a")
    assert states.get("/a") is states["/a"]
    assert states.is_loaded("/a")
    assert loads == ["/a"]
    assert (list(states), len(states)) == (["/a"], 1)


def test_unknown_path_has_no_state() -> None:
    states = LoadedStates(lambda _: None)
    assert states.get("/a") is None
    with pytest.raises(KeyError):
        states["/a"]


def test_deleted_stream_is_not_loaded_again() -> None:
    states = LoadedStates(lambda _: state())
    states.delete("/a")
    assert states.get("/a") is None
    assert states.is_deleted("/a")


def test_stream_created_after_deletion_is_found() -> None:
    states = LoadedStates(lambda _: state())
    states.delete("/a")
    states["/a"] = state(6)
    assert states["/a"].incarnation == 6
    assert not states.is_deleted("/a")


def test_removed_state_is_loaded_again_from_catalog() -> None:
    states = LoadedStates(lambda _: state())
    first = states["/a"]
    del states["/a"]
    assert states["/a"] is not first
