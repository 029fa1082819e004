"""Tests of the check of a whole data directory."""

from pathlib import Path

import pytest

from durable_streams_server.storage.files.directory import DirectoryInUse, DirectoryRefused
from durable_streams_server.storage.files.offline.directory_check import DirectoryCheck
from tests.storage.files.offline.directories import findings_in, opened


def test_intact_directory_has_no_findings(directory: Path) -> None:
    assert findings_in(directory) == []


def test_check_counts_streams_and_records(directory: Path) -> None:
    check = DirectoryCheck(str(directory))
    assert list(check.run()) == []
    assert (check.totals.streams, check.totals.records, check.totals.new_bytes) == (4, 1, 5)


def test_check_reports_progress(directory: Path) -> None:
    seen: list[tuple[int, int]] = []
    check = DirectoryCheck(str(directory), lambda done, total: seen.append((done, total)))
    list(check.run())
    assert seen == [(number, 4) for number in (1, 2, 3, 4)]


@pytest.mark.parametrize("part", ["logs", "wal"])
def test_missing_directory_is_found(directory: Path, part: str) -> None:
    (directory / part).rename(directory / "away")
    found = [(finding.where, finding.what) for finding in findings_in(directory)]
    assert (part, "the directory is missing") in found


def test_check_of_directory_without_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DirectoryRefused, match="no store"):
        findings_in(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_check_of_directory_in_use_is_refused(directory: Path) -> None:
    with opened(directory), pytest.raises(DirectoryInUse):
        findings_in(directory)


def test_check_changes_nothing(directory: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (directory, *directory.rglob("*"))}
    findings_in(directory)
    (directory / "FORMAT").unlink()
    before.pop(directory / "FORMAT")
    before[directory] = directory.stat().st_mtime_ns
    findings_in(directory)
    after = {path: path.stat().st_mtime_ns for path in (directory, *directory.rglob("*"))}
    assert after == before
