"""Every command on every kind of unusable directory prints one line without a traceback, and exits with the right code."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from durable_streams_server import FileBackedStreamStore
from tests.commands import CommandResult, run_all
from tests.privileges import obey_modes
from tests.process import COMMAND

COMMANDS = {
    "serve": ["serve", "--port", "0", "--no-create", "--data-dir"],
    "check": ["check"],
    "repair": ["check", "--repair"],
    "inspect": ["inspect"],
    "keys list": ["keys", "list"],
    "keys rotate": ["keys", "rotate"],
}
READING = ("check", "inspect", "keys list")


def make_store(path: Path) -> Path:
    """Creates a store with one stream and returns its directory."""
    with FileBackedStreamStore(path, segment_size=1 << 20) as store:
        store.create("/a", "text/plain")
        store.append("/a", b"x")
    return path


def missing(path: Path) -> Path:
    return path / "nowhere"


def regular_file(path: Path) -> Path:
    path.write_bytes(b"x")
    return path


def below_a_file(path: Path) -> Path:
    return regular_file(path) / "data"


def unreadable(path: Path) -> Path:
    make_store(path).chmod(0)
    return path


def unreadable_files(path: Path) -> Path:
    for file in make_store(path).rglob("*"):
        if file.is_file():
            file.chmod(0)
    return path


def empty(path: Path) -> Path:
    path.mkdir()
    return path


def foreign(path: Path) -> Path:
    empty(path).joinpath("thesis.txt").write_text("mine")
    return path


def other_format(path: Path) -> Path:
    make_store(path).joinpath("FORMAT").write_text("durable-streams-server data, format 99\n")
    return path


def broken_format(path: Path) -> Path:
    make_store(path).joinpath("FORMAT").write_bytes(b"\xff\0")
    return path


def symlink_loop(path: Path) -> Path:
    path.symlink_to(path)
    return path


def too_long_name(path: Path) -> Path:
    return path / ("x" * 300)


def linked_lock(path: Path) -> Path:
    make_store(path)
    (path / "LOCK").unlink()
    (path / "LOCK").symlink_to(path / "elsewhere")
    return path


def fifo_lock(path: Path) -> Path:
    make_store(path)
    (path / "LOCK").unlink()
    os.mkfifo(path / "LOCK")
    return path


def read_only(path: Path) -> Path:
    for file in (*make_store(path).rglob("*"), path):
        file.chmod(0o500 if file.is_dir() else 0o400)
    return path


UNUSABLE = [
    missing,
    regular_file,
    below_a_file,
    unreadable,
    unreadable_files,
    empty,
    foreign,
    other_format,
    symlink_loop,
    too_long_name,
]
REPAIRABLE: dict[Callable[[Path], Path], bytes] = {
    broken_format: b"FORMAT:",
    linked_lock: b"LOCK:",
    fifo_lock: b"LOCK:",
}


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "data"
    (tmp_path / "data").chmod(0o700) if (tmp_path / "data").is_dir() else None


def run(path: Path, *commands: str) -> dict[str, CommandResult]:
    """Runs commands on a directory, all of them if none is named, and returns their results by name."""
    named = commands or tuple(COMMANDS)
    arguments = [[*COMMANDS[name], str(path)] for name in named]
    return dict(zip(named, run_all(arguments, obey_modes), strict=True))


def names(path: Path) -> list[str]:
    """Returns all paths below the parent of a directory."""
    return sorted(str(each) for each in path.parent.rglob("*"))


@pytest.mark.parametrize("make", REPAIRABLE)
def test_only_check_and_repair_accept_a_repairable_directory(
    path: Path, make: Callable[[Path], Path]
) -> None:
    make(path)
    found = run(path, "check")["check"]
    assert found.returncode == 1
    assert found.stdout.startswith(REPAIRABLE[make])
    for shown in run(path, "inspect", "keys list", "keys rotate").values():
        assert (shown.returncode, shown.stdout) == (4, b"")
        assert shown.stderr.count(b"\n") == 1
    assert run(path, "repair")["repair"].returncode == 1
    assert run(path, "check")["check"].returncode == 0


@pytest.mark.parametrize("make", UNUSABLE)
def test_unusable_directory_prints_one_line_and_exits_4(
    path: Path, make: Callable[[Path], Path]
) -> None:
    directory = make(path)
    before = names(path)
    for command, shown in run(directory).items():
        assert (shown.returncode, shown.stdout) == (4, b""), (command, shown.stderr)
        assert shown.stderr.count(b"\n") == 1
        assert shown.stderr.startswith(b"durable-streams-server: " + os.fsencode(path))
    assert names(path) == before, "something was made there"


def test_directory_in_use_prints_one_line_and_exits_4(path: Path) -> None:
    make_store(path)
    with FileBackedStreamStore(path, segment_size=1 << 20):
        for command, shown in run(path).items():
            assert (shown.returncode, shown.stdout) == (4, b""), command
            assert shown.stderr.count(b"\n") == 1
            assert b"is in use by another process" in shown.stderr


def test_read_only_directory_allows_only_commands_that_read(path: Path) -> None:
    read_only(path)
    for command, shown in run(path).items():
        if command in READING:
            assert (shown.returncode, shown.stderr) == (0, b""), command
        elif command != "repair":  # repair may succeed, because it finds nothing to repair
            assert shown.returncode == 4
            assert shown.stderr.endswith(b": Permission denied\n")
            assert shown.stderr.count(b"\n") == 1


def test_directory_name_may_be_invalid_utf8(tmp_path: Path) -> None:
    path = make_store(tmp_path / os.fsdecode(b"caf\xe9"))
    others = [command for command in COMMANDS if command != "serve"]
    for command, shown in run(path, *others).items():
        assert (shown.returncode, shown.stderr) == (0, b""), command
    absent = os.fsencode(path / "nowhere")
    for shown in run(path / "nowhere").values():
        assert shown.stderr == b"durable-streams-server: %s holds no store\n" % absent


def test_server_prints_a_directory_name_that_is_invalid_utf8_unchanged(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9"
    process = subprocess.Popen(
        [*COMMAND, "serve", "--port", "0", "--drain", "0", "--data-dir", path],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},
    )
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(2)]
    process.terminate()
    assert process.wait(20) == 0
    process.stdout.close()
    assert lines[1] == b"Streams are kept in %s\n" % path
    assert os.path.exists(path + b"/FORMAT")


def test_incomplete_command_exits_2_without_a_traceback() -> None:
    for shown in run_all([["keys"], ["keys", "nonsense"], ["check"], ["keys", "list"]]):
        assert shown.returncode == 2
        assert b"Traceback" not in shown.stderr


def test_empty_directory_name_is_a_usage_error() -> None:
    for shown in run_all([[*COMMANDS[command], ""] for command in COMMANDS]):
        assert (shown.returncode, shown.stderr.count(b"\n")) == (2, 1)
        assert b"the name is empty" in shown.stderr
