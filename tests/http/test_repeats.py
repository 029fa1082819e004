"""`Repeats`: recognises values that it has seen before."""

import pytest

from durable_streams_server.http import repeats as repeats_module
from durable_streams_server.http.repeats import Repeats


def test_has_seen_is_true_for_every_repeated_value() -> None:
    repeats = Repeats()
    assert [repeats.has_seen(thing) for thing in (b"a", b"b", b"a", b"a", b"b")] == [
        False,
        False,
        True,
        True,
        True,
    ]


def test_oldest_hashes_are_forgotten_beyond_the_maximum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats_module, "_SEEN", 2)
    repeats = Repeats()
    assert [repeats.has_seen(thing) for thing in range(5)] == [False] * 5
    assert len(repeats._seen) <= 2
    assert repeats.has_seen(4)
    assert not repeats.has_seen(0)
