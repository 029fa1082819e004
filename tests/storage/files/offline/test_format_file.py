"""Tests of the FORMAT file: no server starts without it, and a repair writes it last."""

from pathlib import Path

import pytest

from durable_streams_server.storage.files.directory import DirectoryRefused, UnknownFormat
from durable_streams_server.storage.files.offline.directory_repair import repair_directory
from durable_streams_server.storage.files.offline.format_file import (
    is_salvaged,
    is_unfinished,
    mark_as_salvaged,
    remove_format,
    restore_format,
)
from durable_streams_server.storage.files.system_disk import SystemDisk
from tests.storage.files.offline.directories import (
    LATER,
    assert_nothing_is_lost,
    findings_in,
    opened,
    repaired,
)


@pytest.mark.parametrize("content", [None, b"", b"durable-streams-server d\x00ta, format 2\n"])
def test_lost_format_file_is_reported_and_restored(directory: Path, content: bytes | None) -> None:
    file = directory / "FORMAT"
    whole = file.read_bytes()
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(DirectoryRefused):
        opened(directory)
    assert "FORMAT is written anew" in repaired(directory)
    assert file.read_bytes() == whole
    assert_nothing_is_lost(directory)


def test_format_of_later_version_is_refused(directory: Path) -> None:
    (directory / "FORMAT").write_bytes(b"durable-streams-server data, format 77\n")
    with pytest.raises(UnknownFormat):
        findings_in(directory)
    with pytest.raises(UnknownFormat):
        list(repair_directory(str(directory), LATER))


def test_server_does_not_start_without_format_file(directory: Path) -> None:
    disk = SystemDisk(directory)
    remove_format(disk)
    assert is_unfinished(disk)
    with pytest.raises(DirectoryRefused):
        opened(directory)
    assert list(restore_format(disk)) == ["FORMAT is written anew"]
    assert not is_unfinished(disk)
    assert_nothing_is_lost(directory)


def test_restoring_format_file_clears_salvaged_mark(directory: Path) -> None:
    disk = SystemDisk(directory)
    assert not is_salvaged(disk)
    remove_format(disk)
    assert not is_salvaged(disk)
    mark_as_salvaged(disk)
    assert is_salvaged(disk)
    list(restore_format(disk))
    assert not is_salvaged(disk)
