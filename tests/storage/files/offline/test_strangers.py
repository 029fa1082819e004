"""Tests of entries of the wrong type in a data directory: `check` reports them, and `repair` quarantines them."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from durable_streams_server import FileBackedStreamStore
from durable_streams_server.cli import main
from durable_streams_server.storage.files.disk import EntryType
from durable_streams_server.storage.files.log_layout import directory_of, path_of
from durable_streams_server.storage.files.offline.strangers import strangers
from durable_streams_server.storage.files.system_disk import SystemDisk
from durable_streams_server.storage.files.wal_sizes import MIN_SIZE

FILES = ("FORMAT", "LOCK", "ballast", "FORMAT.new", "wal/000", "wal/007")
FILES_OF_CATALOG = ("data.mdb", "lock.mdb", "copy", "copy.new", "SUM")
DIRECTORIES = ("catalog", "logs", "wal", "quarantine")
IN_PLACE_OF_A_FILE: dict[str, Callable[[Path], None]] = {
    "directory": lambda path: path.mkdir(),
    "full directory": lambda path: (path / "a").mkdir(parents=True),
    "link": lambda path: path.symlink_to(path.parent),
    "dangling link": lambda path: path.symlink_to("nowhere"),
    "fifo": os.mkfifo,
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    with FileBackedStreamStore(path, wal_size=MIN_SIZE) as store:
        store.create("/kept", "text/plain")
        store.append("/kept", b"bytes in a log")
        store.run_checkpoint()
        store.append("/kept", b", and more of them")
    return path


def run_check(directory: Path, *flags: str) -> Result:
    """Runs the command `check` on a directory."""
    result = CliRunner().invoke(main, ["check", str(directory), *flags])
    assert isinstance(result.exception, SystemExit | None), result.exception
    return result


def emptied(directory: Path, name: str) -> Path:
    """Removes a file of a store, or moves a directory out of it. Returns the path, which is then free."""
    path = directory / name
    if path.is_dir():
        path.rename(directory.parent / "away")
    else:
        path.unlink(missing_ok=True)
    return path


def repair_and_open(directory: Path) -> str:
    """Repairs a directory, opens it, and returns the output of the repair."""
    said = run_check(directory, "--repair").output
    left = run_check(directory)
    assert left.exit_code == 0, left.output
    with FileBackedStreamStore(directory, wal_size=MIN_SIZE) as store:
        store.create("/new", "text/plain")
        store.append("/new", b"works")
    return said


@pytest.mark.parametrize("what", IN_PLACE_OF_A_FILE)
@pytest.mark.parametrize("name", [*FILES, *(f"catalog/{name}" for name in FILES_OF_CATALOG)])
def test_repair_quarantines_entry_of_wrong_type_in_place_of_a_file(
    directory: Path, name: str, what: str
) -> None:
    IN_PLACE_OF_A_FILE[what](emptied(directory, name))
    found = run_check(directory)
    assert found.exit_code == 1
    assert f"{name}: it is no file" in found.output
    said = repair_and_open(directory)
    assert f"{name} is now quarantine/{name.replace('/', '-')}" in said
    with FileBackedStreamStore(directory, wal_size=MIN_SIZE) as store:
        assert store.read("/kept").data == b"bytes in a log, and more of them"


@pytest.mark.parametrize("name", DIRECTORIES)
def test_repair_quarantines_file_where_directory_belongs(directory: Path, name: str) -> None:
    emptied(directory, name).write_bytes(b"somebody's")
    found = run_check(directory)
    assert found.exit_code == 1
    assert f"{name}: it is no directory" in found.output
    assert f"{name} is now quarantine" in repair_and_open(directory)


def test_file_in_place_of_a_log_directory_damages_only_streams_of_that_directory(
    directory: Path,
) -> None:
    with FileBackedStreamStore(directory, wal_size=MIN_SIZE) as store:
        state = store.find("/kept").result()
        assert state is not None
        name = directory_of(state.incarnation)
        log = path_of(state.incarnation)
    emptied(directory, name).write_bytes(b"")
    found = run_check(directory)
    assert f"{name}: it is no directory" in found.output
    assert f"{log} (stream /kept)" in found.output
    assert "/kept: " in repair_and_open(directory)


def test_wal_and_logs_may_be_symbolic_links_to_other_directories(directory: Path) -> None:
    for name in ("wal", "logs"):
        away = directory.parent / f"other-disk-{name}"
        (directory / name).rename(away)
        (directory / name).symlink_to(away)
    disk = SystemDisk(directory, readonly=True)
    assert disk.entry_type("wal") is EntryType.DIRECTORY
    assert list(strangers(disk)) == []
    assert run_check(directory).exit_code == 0
    with FileBackedStreamStore(directory, wal_size=MIN_SIZE) as store:
        assert store.read("/kept").data == b"bytes in a log, and more of them"


def test_check_ignores_names_that_no_store_uses(directory: Path) -> None:
    (directory / "logs" / "lost+found").mkdir()
    (directory / "wal" / "notes").symlink_to("nowhere")
    (directory / "backup").mkdir()
    assert list(strangers(SystemDisk(directory, readonly=True))) == []
