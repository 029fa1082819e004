"""The heap of deadlines of a store in memory."""

from durable_streams_server.protocol.lifetime import FOREVER, Lifetime
from durable_streams_server.protocol.media import parse_media_type
from durable_streams_server.protocol.state import StreamState
from durable_streams_server.protocol.timeline import Timeline
from durable_streams_server.storage.deadlines import Deadlines
from tests.requests import NOW, SECOND

TEN = Lifetime(ttl=10)


def state(number: int, lifetime: Lifetime = TEN) -> StreamState:
    return StreamState(f"/{number}", number, parse_media_type("a/b"), lifetime, NOW)


def test_what_lives_for_ever_is_not_kept() -> None:
    deadlines = Deadlines(Timeline())
    deadlines.add(state(1, FOREVER))
    assert deadlines.next() is None


def test_a_use_puts_an_entry_back() -> None:
    deadlines, stream = Deadlines(Timeline()), state(1)
    deadlines.add(stream)
    stream.touch(NOW + 5 * SECOND)
    assert deadlines.due(NOW + 10 * SECOND) == []
    assert deadlines.next() == NOW + 15 * SECOND
    assert deadlines.due(NOW + 15 * SECOND) == [("/1", 1)]


def test_streams_that_were_used_again_are_looked_at_a_few_thousand_at_a_time() -> None:
    deadlines = Deadlines(Timeline())
    streams = [state(number) for number in range(12_000)]
    for stream in streams:
        deadlines.add(stream)
        stream.touch(NOW + 5 * SECOND)
    turns = 0
    while deadlines.next() == NOW + 10 * SECOND:
        assert deadlines.due(NOW + 10 * SECOND) == []
        turns += 1
    assert turns == 3


def test_what_is_gone_is_forgotten() -> None:
    deadlines, removed, deleted = Deadlines(Timeline()), state(1), state(2)
    deadlines.add(removed)
    deadlines.add(deleted)
    removed.removed = deleted.soft_deleted = True
    assert deadlines.due(NOW + 10 * SECOND) == []
    assert deadlines.next() is None


def test_what_live_readers_keep_is_looked_at_again() -> None:
    deadlines, stream = Deadlines(Timeline()), state(1)
    deadlines.add(stream)
    stream.readers = 1
    assert deadlines.due(NOW + 10 * SECOND) == []
    stream.readers = 0
    assert deadlines.due(NOW + 20 * SECOND) == [("/1", 1)]


def test_streams_that_end_before_their_time_are_not_kept_until_then() -> None:
    deadlines, stays = Deadlines(Timeline()), state(1)
    deadlines.add(stays)
    for number in range(2, 10_000):
        passing = state(number)
        deadlines.add(passing)
        passing.removed = True
    assert len(deadlines) < 3000
    assert deadlines.due(NOW + 10 * SECOND) == [("/1", 1)]
