"""Tests of the quarantine: a repair moves damaged files and withheld changes into it, and overwrites no file there."""

import json

from durable_streams_server.protocol.state import SoftDeleted
from durable_streams_server.protocol.subscriptions.changes import WakeChanged
from durable_streams_server.storage.files.directory import QUARANTINE
from durable_streams_server.storage.files.offline.apply_records import Withheld
from durable_streams_server.storage.files.offline.quarantine import (
    move_to_quarantine,
    write_withheld,
)
from durable_streams_server.testing.disk import SimulatedDisk


def test_quarantined_file_keeps_its_bytes(disk: SimulatedDisk) -> None:
    whole = disk.content("wal/000")
    assert move_to_quarantine(disk, "wal/000") == "wal/000 is now quarantine/wal-000"
    assert disk.content(f"{QUARANTINE}/wal-000") == whole
    assert not disk.exists("wal/000")


def test_second_quarantined_file_of_same_name_gets_number(disk: SimulatedDisk) -> None:
    for text in (b"one", b"two", b"three"):
        disk.open("stray", create=True).write(text, 0)
        move_to_quarantine(disk, "stray")
    names = ("stray", "stray.2", "stray.3")
    assert [disk.content(f"{QUARANTINE}/{name}") for name in names] == [b"one", b"two", b"three"]


def test_file_in_place_of_quarantine_directory_is_renamed(disk: SimulatedDisk) -> None:
    disk.open(QUARANTINE, create=True).write(b"stranger", 0)
    assert move_to_quarantine(disk, QUARANTINE) == "quarantine is now quarantine.aside"
    assert disk.content("quarantine.aside") == b"stranger"


def test_withheld_changes_are_written_as_json_lines_and_counted(disk: SimulatedDisk) -> None:
    disk.make_directory(QUARANTINE)
    withheld = [
        Withheld(7, SoftDeleted("/a", 5), "why"),
        Withheld(8, SoftDeleted("/a", 6), "why"),
        Withheld(9, WakeChanged("s", 1, None), "other"),
    ]
    assert list(write_withheld(disk, iter(withheld))) == [
        "/a: why; 2 later changes are in quarantine/records.jsonl",
        "subscription s: other; 1 later changes are in quarantine/records.jsonl",
    ]
    lines = disk.content(f"{QUARANTINE}/records.jsonl").splitlines()
    assert [json.loads(line)["record"] for line in lines] == [7, 8, 9]
    assert json.loads(lines[0])["change"] == "SoftDeleted"


def test_repair_writes_no_records_file_if_no_change_is_withheld(disk: SimulatedDisk) -> None:
    assert list(write_withheld(disk, iter(()))) == []
    assert not disk.exists(f"{QUARANTINE}/records.jsonl")
