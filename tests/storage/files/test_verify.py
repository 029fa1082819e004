"""Tests of verified reads: bytes of a log are returned only after they match the CRCs in its index."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams_server.storage.damage import Damaged
from durable_streams_server.storage.files import verify
from durable_streams_server.storage.files.disk import File
from durable_streams_server.storage.files.index import Index, encode, unlabelled_header
from durable_streams_server.storage.files.verify import Verified, read_verified, verified_prefix
from durable_streams_server.storage.recent import INSIDE, Piece, Pieces
from durable_streams_server.testing.disk import SimulatedDisk

BASE = 1000


def log(sizes: list[int], inside: frozenset[int] = frozenset()) -> tuple[File, Index, bytes]:
    """Returns a log with pieces of some sizes, its index, and its bytes."""
    chance = random.Random(7)
    disk = SimulatedDisk(chance)
    data, index_file = disk.open("log", create=True), disk.open("log.idx", create=True)
    whole = chance.randbytes(sum(sizes))
    pieces, at = [], 0
    for number, size in enumerate(sizes):
        end = BASE + at + size
        pieces.append(Piece(end | INSIDE if number in inside else end, whole[at : at + size]))
        at += size
    data.write(whole, 0)
    index_file.write(unlabelled_header(BASE) + encode(Pieces.of(pieces)), 0)
    return data, Index.of(index_file), whole


def file_of(index: Index) -> File:
    assert isinstance(index.file, File)
    return index.file


def size_of(index: Index) -> int:
    return file_of(index).size()


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=40),
    st.integers(1, 60),
    st.data(),
)
def test_read_verified_returns_written_bytes_of_any_range(
    sizes: list[int], at_once: int, draw: st.DataObject
) -> None:
    data, index, whole = log(sizes)
    start = draw.draw(st.integers(0, len(whole) - 1))
    end = draw.draw(st.integers(start + 1, len(whole)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            verify, "AT_ONCE", at_once
        )  # so that some pieces are larger than the memory limit
        patch.setattr(verify, "_ENTRIES", 3)
        read, low, high = read_verified(data, index, len(sizes), BASE + start, BASE + end)
    assert read == whole[start:end]
    assert low <= BASE + start
    assert BASE + end <= high


@given(st.data())
def test_read_of_damaged_byte_or_index_entry_raises(draw: st.DataObject) -> None:
    sizes = [10] * 12
    data, index, whole = log(sizes)
    victim = draw.draw(st.integers(0, 11))
    if draw.draw(st.booleans()):
        at = victim * 10 + draw.draw(st.integers(0, 9))
        data.write(bytes([whole[at] ^ 1]), at)
    else:
        at = index.place_of(victim) + draw.draw(st.integers(0, 15))
        file_of(index).write(bytes([index.file.read(1, at)[0] ^ 4]), at)
    with pytest.raises(Damaged):
        read_verified(data, index, 12, BASE + victim * 10, BASE + victim * 10 + 1)
    kept, entries, what = verified_prefix(data, index, size_of(index), (BASE, BASE + 120, 12))
    assert (kept, entries) == (BASE + victim * 10, victim)
    assert what is not None


def test_verified_prefix_ends_at_end_of_an_append() -> None:
    data, index, _ = log([10] * 6, inside=frozenset({1, 2}))
    file_of(index).write(b"\xff", index.place_of(3))
    assert verified_prefix(data, index, size_of(index), (BASE, BASE + 60, 6))[:2] == (BASE + 10, 1)


def test_intact_log_is_verified_completely() -> None:
    data, index, _ = log([10, 70, 3])
    assert verified_prefix(data, index, size_of(index), (BASE, BASE + 83, 3)) == (
        BASE + 83,
        3,
        None,
    )


@pytest.mark.parametrize(
    ("extent", "what"),
    [
        ((BASE, BASE + 90, 3), "the catalog says"),
        ((BASE, BASE + 50, 3), "not in order"),
        ((BASE, BASE + 99, 4), "cut short"),
        ((0, 83, 3), "damaged|not in order"),
    ],
)
def test_index_that_contradicts_catalog_is_damage(extent: tuple[int, int, int], what: str) -> None:
    data, index, _ = log([10, 70, 3])
    found = verified_prefix(data, index, size_of(index), extent)[2]
    assert found is not None
    with pytest.raises(AssertionError, match=what):
        raise AssertionError(found)


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 10)), max_size=30))
def test_verified_set_contains_exactly_the_added_ranges(runs: list[tuple[int, int]]) -> None:
    verified, known = Verified(), set()
    for start, size in runs:
        verified.add(start, start + size)
        known |= set(range(start, start + size))
        for low in range(0, 50, 3):
            for high in range(low + 1, 51, 7):
                assert verified.has(low, high) == (set(range(low, high)) <= known)
