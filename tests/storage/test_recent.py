"""Tests of the cache of the newest bytes of streams."""

import gc

from hypothesis import given
from hypothesis import strategies as st

from durable_streams_server.protocol.limits import MARK_SPACING
from durable_streams_server.storage.recent import INSIDE, Recent, RecentCache, cut


def filled(memory: RecentCache, base: int, appends: list[bytes]) -> Recent:
    """Returns the recent bytes of a new stream after appends."""
    recent, end = Recent(base, base, 0), base
    for data in appends:
        end += len(data)
        memory.add(recent, end, data)
    return recent


@given(
    st.integers(0, 20),
    st.lists(st.binary(min_size=1, max_size=9), min_size=1, max_size=70),
    st.data(),
)
def test_cache_of_recent_appends_returns_appended_bytes(
    base: int, appends: list[bytes], data: st.DataObject
) -> None:
    memory = RecentCache(1 << 30)
    recent, whole = filled(memory, base, appends), b"".join(appends)
    recent.flushed = base + len(whole)
    for _ in range(data.draw(st.integers(0, len(appends)))):
        assert recent.drop_first()
    start = data.draw(st.integers(recent.begin, base + len(whole)))
    end = data.draw(st.integers(start, base + len(whole)))
    if start < end:
        assert recent.read(start, end) == whole[start - base : end - base]
    kept = recent.pieces(recent.begin, base + len(whole))
    assert b"".join(piece.data for piece in kept) == whole[recent.begin - base :]
    if start < base + len(whole):
        assert recent.around(start)[0] <= start < recent.around(start)[1]


def test_trim_does_not_drop_unflushed_appends() -> None:
    memory = RecentCache(0)
    recent = filled(memory, 0, [b"abc", b"def"])
    memory.trim()
    assert recent.begin == 0
    recent.flushed = 3
    memory.trim()
    assert (recent.begin, recent.read(3, 6)) == (3, b"def")


def test_trim_drops_oldest_append_of_all_streams_first() -> None:
    memory = RecentCache(500)
    first = filled(memory, 0, [b"x" * 200])
    second = filled(memory, 0, [b"y" * 200])
    first.flushed = second.flushed = 200
    memory.trim()
    assert (len(first), len(second)) == (0, 1)
    memory.forget(second)
    assert memory.held == 0
    memory.trim()


def test_forgotten_streams_leave_no_entries_behind() -> None:
    memory = RecentCache(1 << 30)
    stays = filled(memory, 0, [b"x"])
    for _ in range(10_000):
        memory.forget(filled(memory, 0, [b"y", b"z"]))
    assert sum(map(len, memory._blocks)) < 10_000
    memory._limit = stays.flushed = 1
    memory.trim()
    assert (memory.held, len(stays)) == (0, 0)
    assert sum(map(len, memory._blocks)) == memory._stale


def test_large_json_append_is_cut_at_the_ends_of_values() -> None:
    data = (b"1" * 999 + b",") * 100
    pieces = cut(50, data)
    assert b"".join(piece.data for piece in pieces) == data
    assert all(piece.data[-1:] == b"," for piece in pieces)
    assert max(len(piece.data) for piece in pieces) < MARK_SPACING + 1000
    assert [bool(piece.end & INSIDE) for piece in pieces] == [True] * (len(pieces) - 1) + [False]
    assert pieces[-1].end == 50 + len(data)


def test_cache_returns_many_appends_without_creating_many_objects() -> None:
    memory = RecentCache(1 << 40)
    recent = filled(memory, 0, [b"x"] * 100_000)
    before = len(gc.get_objects())
    pieces = recent.pieces(0, 100_000)
    assert len(gc.get_objects()) - before < 100
    assert (len(pieces), pieces.end) == (100_000, 100_000)
    memory.forget(recent)
    assert memory.held == 0
    assert sum(map(len, memory._dying)) > 90_000  # freed in steps
    for _ in range(30):
        memory.trim()
    assert memory._dying == []
    assert sum(map(len, memory._blocks)) == memory._stale


def test_trim_drops_limited_number_of_appends_per_call() -> None:
    memory = RecentCache(0)
    recent = filled(memory, 0, [b"x"] * 100_000)
    recent.flushed = 100_000
    memory.trim()
    assert 90_000 < len(recent) < 100_000
    for _ in range(30):
        memory.trim()
    assert (memory.held, len(recent)) == (0, 0)


def test_around_returns_bounds_of_piece_and_end_of_append() -> None:
    recent = Recent(10, 10, 0)
    for end in (12 | INSIDE, 15 | INSIDE, 17, 20 | INSIDE):
        recent.add(end, b"x")
    assert [recent.around(at) for at in (10, 11, 12, 16, 17)] == [
        (10, 12, 17),
        (10, 12, 17),
        (12, 15, 17),
        (15, 17, 17),
        (17, 20, 20),
    ]
    assert recent.around(20) == (20, 20, 20)


def test_one_call_of_added_equals_many_calls_of_add() -> None:
    one, other = RecentCache(1000), RecentCache(1000)
    recents = [Recent(0, 0, 0) for _ in range(3)]
    twins = [Recent(0, 0, 0) for _ in range(3)]
    count = 3 * 4096 + 5
    for number in range(count):
        one.add(recents[number % 3], number + 1, b"x")
        twins[number % 3].add(number + 1, b"x")
    assert other.added([twins[number % 3] for number in range(count)], count) == one.held
    assert other.held == one.held
    assert [len(block) for block in other._blocks] == [len(block) for block in one._blocks]
    assert other.added([], 0) == 0


def test_pieces_returns_at_most_the_requested_number_of_pieces() -> None:
    recent = filled(RecentCache(1000), 10, [b"abc", b"d", b"ef"])
    assert recent.count(10, 16) == 3
    assert recent.count(13, 14) == 1
    assert recent.count(16, 16) == 0
    taken = recent.pieces(10, 16, 2)
    assert taken.data == [b"abc", b"d"]
    taken.extend(recent.pieces(taken.end, 16, 2))
    assert taken == recent.pieces(10, 16)
