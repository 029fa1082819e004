"""Tests of which streams get a new incarnation because they have lost bytes or may have lost some."""

import msgspec
import pytest

from durable_streams_server.storage.files.offline.new_incarnations import new_incarnations
from durable_streams_server.storage.files.offline.wal_reader import Gap
from durable_streams_server.storage.files.wal_format import OVERHEAD
from durable_streams_server.testing.disk import SimulatedDisk
from tests.storage.files.offline.reconstructions import (
    FORK,
    LATER,
    A,
    B,
    append_to,
    incarnation,
    reconstruction,
    renamed,
)


def test_streams_keep_their_incarnations_if_no_record_is_missing(disk: SimulatedDisk) -> None:
    found = reconstruction(disk)
    assert found.apply(append_to(disk, A)) is None
    assert new_incarnations(found, LATER) == {}


def test_missing_records_give_open_streams_and_forks_new_incarnations(disk: SimulatedDisk) -> None:
    found = reconstruction(disk)
    found.add_gap(Gap(4, None, None))
    assert renamed(disk, found) == {A, B, FORK}


def test_append_at_known_tail_after_gap_preserves_incarnation_of_stream(
    disk: SimulatedDisk,
) -> None:
    found = reconstruction(disk)
    found.add_gap(Gap(4, 6, None))
    assert found.apply(append_to(disk, A)) is None
    assert found.apply(append_to(disk, FORK)) is None
    assert renamed(disk, found) == {B}
    found.add_gap(Gap(8, 10, None))
    assert found.apply(append_to(disk, A, 12)) is None
    assert renamed(disk, found) == {B, FORK}


@pytest.mark.parametrize(("spare", "others"), [(0, set()), (23, set()), (24, {B}), (1000, {B})])
def test_gap_size_shows_whether_other_streams_may_have_lost_appends(
    disk: SimulatedDisk, spare: int, others: set[str]
) -> None:
    lost = msgspec.msgpack.encode((append_to(disk, A, 8, b"lost"),))
    found = reconstruction(disk)
    found.add_gap(Gap(4, 6, OVERHEAD + len(lost) + spare))
    assert found.apply(append_to(disk, A, 12)) is not None
    assert renamed(disk, found) == {A, FORK} | others


def test_new_incarnations_are_newer_than_all_others(disk: SimulatedDisk) -> None:
    found = reconstruction(disk)
    found.add_gap(Gap(4, None, None))
    new = new_incarnations(found, LATER)
    assert min(each.number for each in new.values()) >= LATER
    assert new[incarnation(disk, A)].number < new[incarnation(disk, FORK)].number
    assert new_incarnations(found, 0)[incarnation(disk, A)].number == found.newest + 1
