"""Tests of stream states: how each change alters the newest state, and when readers see it."""

from durable_streams_server.protocol.lifetime import FOREVER, Lifetime
from durable_streams_server.protocol.limits import MAX_TIME
from durable_streams_server.protocol.media import parse_media_type
from durable_streams_server.protocol.offsets import Span
from durable_streams_server.protocol.producers import ProducerState, Stamp
from durable_streams_server.protocol.state import (
    Appended,
    Created,
    Origin,
    Removed,
    SoftDeleted,
    StreamState,
    Touched,
    affected,
    apply,
)
from tests.requests import NOW, SECOND

MEDIA = parse_media_type("text/plain")


def created(path: str, incarnation: int, lifetime: Lifetime = FOREVER) -> Created:
    """Returns a change that creates a text stream."""
    return Created(path, incarnation, MEDIA, lifetime, NOW)


def fork(path: str, incarnation: int, source: StreamState, position: int) -> Created:
    """Returns a change that creates a fork."""
    origin = Origin(source.path, source.incarnation, source.name(position), 0, position)
    lineage = (Span(source.incarnation, position),)
    return Created(path, incarnation, MEDIA, FOREVER, NOW, origin, lineage)


def test_append_is_visible_only_after_it_is_published() -> None:
    states: dict[str, StreamState] = {}
    state = apply(states, created("/a", 1))
    change = Appended("/a", 1, 0, b"abc", True, NOW + 5, Stamp(b"p", 1, 0), b"7")
    apply(states, change)
    assert (state.tail, state.closed, state.last_seq) == (3, True, b"7")
    assert state.producers == {b"p": ProducerState(1, 0)}
    assert state.closed_by == Stamp(b"p", 1, 0)
    assert (state.touched_at, state.noted_at) == (NOW + 5, NOW + 5)
    assert (state.visible_tail, state.visible_closed) == (0, False)
    state.publish(change)
    assert (state.visible_tail, state.visible_closed) == (3, True)


def test_source_counts_its_forks() -> None:
    states: dict[str, StreamState] = {}
    source = apply(states, created("/a", 1))
    apply(states, Appended("/a", 1, 0, b"abc", False, NOW))
    child = apply(states, fork("/b", 2, source, 2))
    assert (source.children, child.tail, child.base) == (1, 2, 2)
    apply(states, SoftDeleted("/a", 1))
    assert source.soft_deleted
    apply(states, Removed("/b", 2))
    assert source.children == 0
    assert child.removed
    assert set(states) == {"/a"}


def test_affected_yields_the_states_that_a_change_alters() -> None:
    states: dict[str, StreamState] = {}
    source = apply(states, created("/a", 1))
    beginning = fork("/b", 2, source, 0)
    assert list(affected(states, beginning)) == [source]
    child = apply(states, beginning)
    assert list(affected(states, Appended("/b", 2, 0, b"x", False, NOW))) == [child]
    assert list(affected(states, Removed("/b", 2))) == [child, source]


def test_extents_yield_the_owner_of_each_part() -> None:
    state = StreamState("/c", 3, MEDIA, FOREVER, NOW, None, (Span(1, 4), Span(2, 7)))
    assert list(state.extents(0, 10)) == [(1, 0, 4), (2, 4, 7), (3, 7, 10)]
    assert list(state.extents(5, 7)) == [(2, 5, 7)]
    assert list(state.extents(8, 9)) == [(3, 8, 9)]
    assert list(state.extents(3, 3)) == []


def test_use_of_a_stream_never_moves_its_deadline_back() -> None:
    states: dict[str, StreamState] = {}
    state = apply(states, created("/a", 1, Lifetime(ttl=10)))
    state.touch(NOW + SECOND)
    state.touch(NOW)
    assert state.deadline() == NOW + 11 * SECOND
    assert state.noted_at == NOW
    apply(states, Touched("/a", 1, NOW + 2 * SECOND))
    assert state.noted_at == NOW + 2 * SECOND


def test_restart_extends_ttl_by_a_tenth_until_the_next_use() -> None:
    states: dict[str, StreamState] = {}
    state = apply(states, created("/a", 1, Lifetime(ttl=10)))
    state.expect_uses_before_a_restart()
    assert state.deadline() == NOW + 11 * SECOND
    state.touch(NOW)
    assert state.deadline() == NOW + 10 * SECOND


def test_stream_with_a_ttl_does_not_expire_while_it_has_a_live_reader() -> None:
    state = StreamState("/a", 1, MEDIA, Lifetime(ttl=1), NOW)
    state.readers = 1
    assert not state.expired(NOW + 100 * SECOND)
    state.readers = 0
    assert state.expired(NOW + SECOND)


def test_live_reader_does_not_postpone_a_fixed_deadline() -> None:
    state = StreamState("/a", 1, MEDIA, Lifetime(expires_at=NOW + 5), NOW)
    state.readers = 1
    assert state.expired(NOW + 5)


def test_removed_fork_does_not_alter_a_stream_recreated_at_its_source_path() -> None:
    states: dict[str, StreamState] = {}
    source = apply(states, created("/a", 1))
    child = apply(states, fork("/b", 2, source, 0))
    del states["/a"]  # a repair removes a stream in this way
    other = apply(states, created("/a", 3))
    assert list(affected(states, Removed("/b", 2))) == [child]
    apply(states, Removed("/b", 2))
    assert (source.children, other.children) == (1, 0)


def test_fork_is_removed_after_its_source_is_gone() -> None:
    states: dict[str, StreamState] = {}
    child = apply(states, fork("/b", 2, apply(states, created("/a", 1)), 0))
    del states["/a"]
    assert list(affected(states, Removed("/b", 2))) == [child]
    apply(states, Removed("/b", 2))
    assert states == {}


def test_fork_shares_the_ancestry_of_its_source() -> None:
    states: dict[str, StreamState] = {}
    apply(states, created("/1", 1))
    for number in range(2, 50):
        source = states[f"/{number - 1}"]
        apply(states, Appended(source.path, source.incarnation, source.tail, b"x", False, NOW))
        apply(states, fork(f"/{number}", number, source, source.tail))
    first, last = states["/48"], states["/49"]
    assert last.ancestry.parent is first.ancestry
    assert last.lineage == (Span(48, 48),)
    assert last.ancestry.depth == 48
    assert list(last.extents(46, 60)) == [(47, 46, 47), (48, 47, 48), (49, 48, 60)]


def test_fork_change_and_fork_state_return_the_same_offsets() -> None:
    states: dict[str, StreamState] = {}
    source = apply(states, created("/a", 1))
    change = fork("/b", 2, source, 0)
    state = apply(states, change)
    assert [change.name(at) for at in (0, 5)] == [state.name(at) for at in (0, 5)]


def test_use_time_out_of_range_is_clamped() -> None:
    state = StreamState("/a", 1, MEDIA, Lifetime(ttl=1), NOW)
    state.touch(10**30)
    assert state.touched_at == MAX_TIME


def test_owned_returns_the_same_owners_as_extents() -> None:
    state = StreamState("/c", 3, MEDIA, FOREVER, NOW, None, (Span(1, 4), Span(2, 7)))
    state.visible_tail = 9
    for position in range(9):
        ((owner, _, _),) = state.extents(position, position + 1)
        assert state.owned(position)[0] == owner
    assert [state.owned(at)[1:] for at in (0, 3, 4, 6, 7, 8)] == [
        (0, 4),
        (0, 4),
        (4, 7),
        (4, 7),
        (7, 9),
        (7, 9),
    ]
    assert StreamState("/a", 1, MEDIA, FOREVER, NOW).owned(0) == (1, 0, 0)
