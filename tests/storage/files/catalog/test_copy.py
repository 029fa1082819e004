"""Tests of the second copy alone: intact commits, torn ends, damage in the middle, and rewriting."""

import errno
import os
import random
from collections.abc import Callable

import pytest

from durable_streams_server.storage.files.catalog.copy import (
    HEAD_SIZE,
    Copy,
    all_intact_records,
    committed_payloads,
)
from durable_streams_server.storage.files.catalog.tables import (
    STREAMS,
    Operation,
    encode_put,
    operations,
    seal,
)
from durable_streams_server.testing.disk import SimulatedDisk

IDENTITY = 77


def new_disk(seed: int = 0) -> SimulatedDisk:
    return SimulatedDisk(random.Random(seed))


def parts(*keys: bytes, size: int = 10) -> list[bytes]:
    """Returns encoded operations that write some keys, in three parts each."""
    found: list[bytes] = []
    for key in keys:
        sealed = seal(key, b"v" * size)
        encoded = encode_put(STREAMS, key, sealed)
        found += (encoded[: -len(key) - len(sealed)], key, sealed)
    return found


def filled(disk: SimulatedDisk, commits: int) -> Copy:
    """Returns a copy with some commits. Each writes its number as a key."""
    copy = Copy(disk)
    for number in range(1, commits + 1):
        copy.append(IDENTITY, number, parts(b"%d" % number))
        copy.confirm_append()
    return copy


def loaded(disk: SimulatedDisk) -> Copy:
    copy = Copy(disk)
    copy.load()
    return copy


def keys(copy: Copy) -> list[bytes]:
    return [each.key for payload in committed_payloads(copy) for each in operations(payload)]


def test_load_of_missing_second_copy_finds_no_state() -> None:
    copy = loaded(new_disk())
    assert (copy.file, copy.state, copy.newest) == (None, None, 0)


def test_appended_commits_are_loaded() -> None:
    disk = new_disk()
    written = filled(disk, 3)
    copy = loaded(disk)
    assert copy.state == written.state
    assert copy.state is not None
    assert (copy.state.identity, copy.state.commits, copy.newest) == (IDENTITY, 3, 3)
    assert keys(copy) == [b"1", b"2", b"3"]
    expected = Operation(STREAMS, b"3", seal(b"3", b"v" * 10))
    assert list(copy.last_operations()) == [expected]


def test_large_commit_is_split_into_records_and_repeated_completely() -> None:
    disk = new_disk()
    copy = filled(disk, 1)
    names = [b"%d" % number for number in range(10_000)]
    copy.append(IDENTITY, 2, parts(*names))
    again = loaded(disk)
    assert [operation.key for operation in again.last_operations()] == names
    assert again.file is not None
    assert len(list(all_intact_records(again.file, IDENTITY))) > 3


@pytest.mark.parametrize("lost", [1, 5, 24, 40])
def test_torn_last_commit_is_discarded(lost: int) -> None:
    disk = new_disk()
    state = filled(disk, 2).state
    filled(disk := new_disk(), 3)
    file = disk.open("copy")
    file.truncate(file.size() - lost)
    copy = loaded(disk)
    assert copy.state == state
    copy.discard_append()
    assert state is not None
    assert disk.size("copy") == state.end
    copy.append(IDENTITY, 3, parts(b"again"))
    copy.confirm_append()
    assert keys(loaded(disk)) == [b"1", b"2", b"again"]


def test_load_finds_number_of_newest_commit_behind_damaged_commit() -> None:
    disk = new_disk()
    copy = filled(disk, 5)
    assert copy.file is not None
    second = list(all_intact_records(copy.file, IDENTITY))[1]
    for at in range(second.start, second.end):
        disk.corrupt("copy", at, 3)
        damaged = loaded(disk)
        assert damaged.state is not None
        assert (damaged.state.commits, damaged.newest) == (1, 5)
        disk.corrupt("copy", at, 3)


def test_load_of_second_copy_with_damaged_header_finds_no_state() -> None:
    disk = new_disk()
    filled(disk, 2)
    for at in range(HEAD_SIZE):
        disk.corrupt("copy", at, 0)
        assert loaded(disk).state is None
        disk.corrupt("copy", at, 0)


def test_record_of_another_directory_is_ignored() -> None:
    one, other = new_disk(), new_disk()
    state = filled(one, 1).state
    assert state is not None
    copy = Copy(other)
    for number in (1, 2):
        copy.append(IDENTITY + 1, number, parts(b"%d" % number))
        copy.confirm_append()
    stranger = other.content("copy")[state.end :]
    one.open("copy").write(stranger, state.end)
    found = loaded(one)
    assert found.state == state
    assert found.newest == 1


def test_discarded_commit_is_not_loaded() -> None:
    disk = new_disk()
    copy = filled(disk, 2)
    copy.append(IDENTITY, 3, parts(b"unwanted"))
    copy.discard_append()
    assert keys(loaded(disk)) == [b"1", b"2"]
    copy.append(IDENTITY, 3, parts(b"3"))
    copy.confirm_append()
    assert keys(loaded(disk)) == [b"1", b"2", b"3"]


def test_dropped_commit_remains_in_the_file_until_next_append_overwrites_it() -> None:
    disk = new_disk()
    filled(disk, 3)
    copy = loaded(disk)
    copy.drop_last_commit()
    assert keys(loaded(disk)) == [b"1", b"2", b"3"]
    copy.append(IDENTITY, 3, parts(b"other"))
    copy.confirm_append()
    assert keys(loaded(disk)) == [b"1", b"2", b"other"]


def test_commits_can_be_appended_to_rewritten_second_copy() -> None:
    disk = new_disk()
    copy = filled(disk, 9)
    entries = [encode_put(STREAMS, b"%d" % n, seal(b"%d" % n, b"x" * 9000)) for n in range(300)]
    copy.rewrite(IDENTITY, 9, entries)
    assert copy.state is not None
    assert copy.state.base == copy.state.end == disk.size("copy")
    copy.append(IDENTITY, 10, parts(b"ten"))
    copy.confirm_append()
    again = loaded(disk)
    assert again.state == copy.state
    assert keys(again) == [*(b"%d" % n for n in range(300)), b"ten"]
    assert not disk.exists("copy.new")


@pytest.mark.parametrize("call", ["open", "write", "sync", "rename"])
def test_failed_rewrite_leaves_old_second_copy(call: str) -> None:
    disk = new_disk()
    copy = filled(disk, 2)
    disk.before = failing(call)
    with pytest.raises(OSError, match="No space"):
        copy.rewrite(IDENTITY, 2, [encode_put(STREAMS, b"k", seal(b"k", b""))])
    disk.before = lambda _: None
    assert not disk.exists("copy.new")
    copy.append(IDENTITY, 3, parts(b"3"))
    copy.confirm_append()
    assert keys(loaded(disk)) == [b"1", b"2", b"3"]


def test_load_skips_records_before_state_given_as_hint() -> None:
    disk = new_disk()
    state = filled(disk, 4).state
    assert state is not None
    disk.corrupt("copy", HEAD_SIZE + 30, 0)  # in the first commit
    copy = Copy(disk)
    copy.load(state)
    assert copy.state == state
    copy.append(IDENTITY, 5, parts(b"5"))
    again = Copy(disk)
    again.load(state)
    assert again.state is not None
    assert again.state.commits == 5


@pytest.mark.parametrize(
    "changes", [{"commits": 3}, {"last": 25}, {"end": 9999}, {"identity": 1}, {"last": 0}]
)
def test_load_reads_whole_second_copy_if_hint_is_wrong(changes: dict[str, int]) -> None:
    disk = new_disk()
    state = filled(disk, 4).state
    assert state is not None
    copy = Copy(disk)
    copy.load(state._replace(**changes))
    assert copy.state == state


def failing(call: str) -> Callable[[str], None]:
    def before(name: str) -> None:
        if name == call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)

    return before
