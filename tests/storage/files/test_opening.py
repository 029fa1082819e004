"""Tests of how the store opens files in the data directory: only regular files, without following links."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from durable_streams_server.storage.files.opening import open_plain


def test_new_file_is_accessible_to_its_owner_only(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        descriptor, found = open_plain(tmp_path / "a", os.O_RDWR | os.O_CREAT)
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.fstat(descriptor).st_mode) == 0o600
    assert not os.get_inheritable(descriptor)
    assert found.st_ino == (tmp_path / "a").stat().st_ino
    os.close(descriptor)


PUT_IN_PLACE: dict[str, tuple[Callable[[Path], None], str]] = {
    "link": (lambda path: path.symlink_to(path.parent / "elsewhere"), "it is a symbolic link"),
    "dangling": (lambda path: path.symlink_to(path.parent / "nowhere"), "it is a symbolic link"),
    "fifo": (lambda path: os.mkfifo(path), "it is not a regular file"),
    "directory": (lambda path: path.mkdir(), "directory|not a regular file"),
}


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR, os.O_RDWR | os.O_CREAT])
@pytest.mark.parametrize("kind", PUT_IN_PLACE)
def test_open_of_link_fifo_or_directory_fails_with_path_and_leaves_it_unchanged(
    tmp_path: Path, kind: str, flags: int
) -> None:
    (tmp_path / "elsewhere").write_bytes(b"mine")
    put, said = PUT_IN_PLACE[kind]
    put(tmp_path / "a")
    handles = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match=rf"(?i)({said}).*{tmp_path}/a"):
        open_plain(tmp_path / "a", flags)
    assert len(os.listdir("/proc/self/fd")) == handles
    assert (tmp_path / "elsewhere").read_bytes() == b"mine"
    assert not (tmp_path / "nowhere").exists()


def test_exclusive_open_of_an_existing_file_fails(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        open_plain(tmp_path / "a", os.O_RDWR | os.O_CREAT | os.O_EXCL)
