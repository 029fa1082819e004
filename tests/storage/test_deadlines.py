"""Tests of the memory store's deadlines."""

from durable_streams_server.protocol.lifetime import FOREVER, Lifetime
from durable_streams_server.protocol.media import parse_media_type
from durable_streams_server.protocol.state import StreamState
from durable_streams_server.protocol.timeline import Timeline
from durable_streams_server.storage.deadlines import Deadlines
from tests.requests import NOW, SECOND

TEN = Lifetime(ttl=10)


def state(number: int, lifetime: Lifetime = TEN) -> StreamState:
    return StreamState(f"/{number}", number, parse_media_type("a/b"), lifetime, NOW)


def test_stream_that_never_expires_has_no_entry() -> None:
    deadlines = Deadlines(Timeline())
    deadlines.add(state(1, FOREVER))
    assert deadlines.next() is None


def test_due_moves_entry_of_used_stream_to_its_later_deadline() -> None:
    deadlines, stream = Deadlines(Timeline()), state(1)
    deadlines.add(stream)
    stream.touch(NOW + 5 * SECOND)
    assert deadlines.due(NOW + 10 * SECOND) == []
    assert deadlines.next() == NOW + 15 * SECOND
    assert deadlines.due(NOW + 15 * SECOND) == [("/1", 1)]


def test_due_examines_at_most_a_few_thousand_entries_per_call() -> None:
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


def test_due_drops_entries_of_deleted_streams() -> None:
    deadlines, removed, deleted = Deadlines(Timeline()), state(1), state(2)
    deadlines.add(removed)
    deadlines.add(deleted)
    removed.removed = deleted.soft_deleted = True
    assert deadlines.due(NOW + 10 * SECOND) == []
    assert deadlines.next() is None


def test_overdue_stream_expires_once_its_live_readers_leave() -> None:
    deadlines, stream = Deadlines(Timeline()), state(1)
    deadlines.add(stream)
    stream.readers = 1
    assert deadlines.due(NOW + 10 * SECOND) == []
    stream.readers = 0
    assert deadlines.due(NOW + 20 * SECOND) == [("/1", 1)]


def test_entries_of_streams_deleted_before_their_deadline_are_removed() -> None:
    deadlines, stays = Deadlines(Timeline()), state(1)
    deadlines.add(stays)
    for number in range(2, 10_000):
        passing = state(number)
        deadlines.add(passing)
        passing.removed = True
    assert len(deadlines) < 3000
    assert deadlines.due(NOW + 10 * SECOND) == [("/1", 1)]
