"""Tests of the catalog on a simulated disk: a commit takes effect as a whole or not at all."""

import random

import pytest

from durable_streams_server.storage.files.catalog import Meta
from durable_streams_server.storage.files.catalog.tables import (
    META,
    META_KEY,
    NAMES,
    WriteTransaction,
)
from durable_streams_server.testing.catalog import SimulatedCatalog, SimulatedTables
from durable_streams_server.testing.disk import PowerLoss, SimulatedDisk


@pytest.fixture
def disk() -> SimulatedDisk:
    return SimulatedDisk(random.Random(0))


def do_nothing(_: WriteTransaction) -> None:
    """Makes no change in a transaction."""


def test_new_disk_has_empty_tables(disk: SimulatedDisk) -> None:
    tables = SimulatedTables(disk)
    assert tables.content == [{} for _ in NAMES]
    assert tables.get(META, META_KEY) is None


def test_scan_returns_entries_in_order_within_its_bounds(disk: SimulatedDisk) -> None:
    tables = SimulatedTables(disk)

    def fill(writing: WriteTransaction) -> None:
        for key in (b"c", b"a", b"d", b"b"):
            writing.store(0, key, key * 2)

    tables.write(fill, do_nothing)
    assert tables.scan(0, b"b", 9) == [(b"b", b"bb"), (b"c", b"cc"), (b"d", b"dd")]
    assert tables.scan(0, b"b", 9, b"d") == [(b"b", b"bb"), (b"c", b"cc")]
    assert tables.scan(0, b"", 1) == [(b"a", b"aa")]


def test_transaction_sees_its_own_changes(disk: SimulatedDisk) -> None:
    tables = SimulatedTables(disk)

    def fill(writing: WriteTransaction) -> None:
        writing.store(0, b"a1", b"x")
        writing.store(0, b"a2", b"y")
        writing.remove(0, b"a1")
        assert writing.get(0, b"a1") is None
        assert writing.keys(0, b"a") == [b"a2"]

    tables.write(fill, do_nothing)
    assert tables.content[0] == {b"a2": b"y"}


@pytest.mark.parametrize("call", ["catalog begin", "catalog commit"])
def test_power_loss_during_a_commit_leaves_the_old_tables(disk: SimulatedDisk, call: str) -> None:
    tables = SimulatedTables(disk)

    def lose_power(name: str) -> None:
        if name == call:
            raise PowerLoss

    disk.before = lose_power
    with pytest.raises(PowerLoss):
        tables.write(lambda writing: writing.store(0, b"a", b"x"), do_nothing)
    assert tables.content[0] == {}


def test_power_loss_after_a_commit_leaves_the_new_tables(disk: SimulatedDisk) -> None:
    tables = SimulatedTables(disk)

    def lose_power(name: str) -> None:
        if name == "catalog end":
            raise PowerLoss

    disk.before = lose_power
    with pytest.raises(PowerLoss):
        tables.write(lambda writing: writing.store(0, b"a", b"x"), do_nothing)
    assert tables.content[0] == {b"a": b"x"}


def test_commit_on_full_disk_is_refused_before_writing_second_copy(disk: SimulatedDisk) -> None:
    tables = SimulatedTables(disk)
    disk.capacity = 100
    copied: list[WriteTransaction] = []
    with pytest.raises(OSError, match="No space left"):
        tables.write(lambda writing: writing.store(0, b"a", b"x"), copied.append)
    assert copied == []
    assert tables.content[0] == {}


def test_tables_survive_power_loss_and_a_new_catalog(disk: SimulatedDisk) -> None:
    SimulatedCatalog(disk).commit(Meta(7), [], [])
    disk.lose_power()
    assert SimulatedCatalog(disk).meta().lsn == 7
