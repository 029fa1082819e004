"""Tests of catalog entries that do not agree with each other."""

import random
from collections.abc import Iterable

import msgspec
import pytest

from durable_streams_server.protocol.state import Origin
from durable_streams_server.storage.files.catalog import Entry, Meta, Put
from durable_streams_server.storage.files.offline.cross_references import CrossReferences
from durable_streams_server.testing.catalog import SimulatedCatalog
from durable_streams_server.testing.disk import SimulatedDisk
from tests.storage.files.catalog.values import entry_of_empty_stream, put


def references(entries: Iterable[tuple[str, Entry]]) -> CrossReferences:
    found = CrossReferences()
    for path, entry in entries:
        found.add(path, entry)
    return found


def test_check_finds_deadlines_consistent_with_entries_of_same_commit() -> None:
    catalog = SimulatedCatalog(SimulatedDisk(random.Random(0)))
    catalog.commit(Meta(1, 1, 1), [put("/a", 5, ttl=10), put("/b", 6)], [])
    assert references(catalog.paths()).agree_with_deadlines(catalog)


@pytest.mark.parametrize("change", [put("/c", 7, ttl=10), put("/a", 5, ttl=20)])
def test_check_finds_deadlines_inconsistent_with_entries_of_older_commit(change: Put) -> None:
    catalog = SimulatedCatalog(SimulatedDisk(random.Random(0)))
    catalog.commit(Meta(1, 1, 1), [put("/a", 5, ttl=10), put("/b", 6)], [])
    found = references(list(catalog.paths()))
    catalog.commit(Meta(2, 1, 1), [change], [])
    assert not found.agree_with_deadlines(catalog)


def fork(source: str, incarnation: int) -> Entry:
    return msgspec.structs.replace(
        entry_of_empty_stream(9), origin=Origin(source, incarnation, "", 0, 0)
    )


def source(children: int) -> Entry:
    return msgspec.structs.replace(entry_of_empty_stream(5), children=children)


def test_correct_number_of_forks_is_not_reported() -> None:
    entries = [("/a", source(2)), ("/f", fork("/a", 5)), ("/g", fork("/a", 5))]
    assert list(references(entries).fork_faults()) == []


@pytest.mark.parametrize("children", [1, 3])
def test_wrong_number_of_forks_is_reported_for_the_source(children: int) -> None:
    entries = [("/a", source(children)), ("/f", fork("/a", 5)), ("/g", fork("/a", 5))]
    assert [(each.path, each.what) for each in references(entries).fork_faults()] == [
        ("/a", "the number of its forks is wrong")
    ]


def test_missing_source_of_fork_is_reported() -> None:
    found = references([("/f", fork("/gone", 5))])
    assert [each.path for each in found.fork_faults()] == ["/gone"]


def test_recreated_stream_is_not_accepted_as_source_of_old_fork() -> None:
    found = references([("/a", source(0)), ("/f", fork("/a", 4))])
    assert [each.path for each in found.fork_faults()] == ["/a"]
