"""Tests of logs that a repair changes in place."""

import pytest

from durable_streams_server.storage.files.catalog import label_of_entry
from durable_streams_server.storage.files.directory import QUARANTINE
from durable_streams_server.storage.files.log_layout import KEPT, path_of
from durable_streams_server.storage.files.offline.check import Check
from durable_streams_server.storage.files.offline.log_check import harm_of_log
from durable_streams_server.storage.files.offline.log_repair import (
    append_kept_bytes,
    rewrite_index_header,
)
from durable_streams_server.testing.catalog import SimulatedCatalog
from durable_streams_server.testing.disk import SimulatedDisk
from tests.requests import append
from tests.storage.files.offline.reconstructions import TEXT, A, incarnation
from tests.storage.files.stores import content, open_store, run


@pytest.mark.parametrize("position", [3, 20])
def test_log_is_intact_after_its_index_header_is_rewritten(
    disk: SimulatedDisk, position: int
) -> None:
    name = path_of(incarnation(disk, A)) + ".idx"
    disk.corrupt(name, position, 0)
    entry = SimulatedCatalog(disk).find(A)
    assert entry is not None
    said = rewrite_index_header(disk, label_of_entry(A, entry), 1)
    assert said == f"{name}: its header is written anew"
    assert harm_of_log(disk, A, entry) is None


def test_bytes_in_separate_files_are_appended_and_files_quarantined(disk: SimulatedDisk) -> None:
    name = path_of(incarnation(disk, A))
    run(open_store(disk), append(A, b"kept", TEXT))
    disk.corrupt(name + ".idx", 3, 0)
    open_store(disk).run_checkpoint()
    check = Check(disk, SimulatedCatalog(disk))
    list(check.run())
    ((words, entries, kept),) = check.kept_beside
    assert (entries, kept) == (1, 1)
    list(append_kept_bytes(disk, words, entries, kept))
    assert disk.content(name) == b"aaaaaaaakept"
    assert not disk.exists(name + KEPT)
    assert len(disk.names(QUARANTINE)) == 2
    assert content(open_store(disk), A) == b"aaaaaaaakept"
