"""Tests of the check that a path still leads to the file that was opened there."""

import os
from pathlib import Path

import pytest

from durable_streams_server.storage.files import place
from durable_streams_server.storage.files.place import DirectoryLost, Place


@pytest.fixture(params=["statx", "stat"], autouse=True)
def identify_call(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs each test with `statx` and with `stat`."""
    if request.param == "stat":
        monkeypatch.setattr(place, "_identify", place._by_stat)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").touch()
    return tmp_path / "d" / "f"


def test_path_check_passes_after_file_is_modified(path: Path) -> None:
    found = Place(path, path.stat())
    path.write_bytes(b"x")
    path.chmod(0o400)
    found.check()


@pytest.mark.parametrize("directory_too", [True, False])
def test_path_check_fails_after_file_is_removed_or_moved(path: Path, directory_too: bool) -> None:
    found = Place(path, path.stat())
    gone = path.parent if directory_too else path
    gone.rename(f"{gone}-moved")
    with pytest.raises(DirectoryLost, match=f"{path} has been moved or removed"):
        found.check()
    gone.write_bytes(b"a file where there was a directory")
    with pytest.raises(DirectoryLost):
        found.check()


def test_path_check_fails_after_file_is_replaced(path: Path) -> None:
    found = Place(path, path.stat())
    path.rename(f"{path}-moved")
    path.touch()
    with pytest.raises(DirectoryLost, match=f"{path} has been replaced by another"):
        found.check()


def test_path_check_accepts_path_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xff")
    path.touch()
    Place(path, path.stat()).check()


def test_path_check_of_unreadable_directory_raises_permission_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(_: bytes) -> place.Identity:
        raise PermissionError(13, "Permission denied")

    found = Place(path, path.stat())
    monkeypatch.setattr(place, "_identify", denied)
    with pytest.raises(PermissionError):
        found.check()
