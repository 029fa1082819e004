"""The memory for things that come more than once."""

import pytest

from durable_streams_server.http import repeats as repeats_module
from durable_streams_server.http.repeats import Repeats


def test_repeats_recognise_thing_from_second_time_on() -> None:
    repeats = Repeats()
    assert [repeats.has_seen(thing) for thing in (b"a", b"b", b"a", b"a", b"b")] == [
        False,
        False,
        True,
        True,
        True,
    ]


def test_hashes_are_forgotten_beyond_maximum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats_module, "_SEEN", 2)
    repeats = Repeats()
    assert [repeats.has_seen(thing) for thing in range(5)] == [False] * 5
    assert len(repeats._seen) <= 2
    assert repeats.has_seen(4)
    assert not repeats.has_seen(0)
