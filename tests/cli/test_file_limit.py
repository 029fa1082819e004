"""`raise_file_limit` raises the limit on open files as far as the system allows."""

import resource
import subprocess
from pathlib import Path

import pytest

from durable_streams_server.cli import file_limit
from tests.process import COMMAND

Limits = tuple[int, int]
INFINITE = resource.RLIM_INFINITY


class Kernel:
    """The limits of a system that grants at most `most` open files."""

    def __init__(self, limits: Limits, most: int) -> None:
        self.limits = limits
        self.most = most

    def get(self, _: int) -> Limits:
        return self.limits

    def set(self, _: int, limits: Limits) -> None:
        if limits[0] > self.most:
            raise ValueError("not allowed to raise maximum limit")
        self.limits = limits


@pytest.mark.parametrize(
    ("before", "most", "after"),
    [
        ((1024, 4096), 1 << 30, 4096),
        ((1024, 1 << 30), 1 << 30, 1 << 20),
        ((1024, INFINITE), 1 << 30, 1 << 20),
        ((256, INFINITE), 10_240, 10_240),
        ((256, INFINITE), 0, 256),
        ((4096, 4096), 1 << 30, 4096),
        ((1 << 21, 1 << 30), 1 << 30, 1 << 21),
        ((INFINITE, INFINITE), 1 << 30, INFINITE),
    ],
)
def test_soft_file_limit_is_raised_if_possible_and_never_lowered(
    before: Limits, most: int, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = Kernel(before, most)
    monkeypatch.setattr(resource, "getrlimit", kernel.get)
    monkeypatch.setattr(resource, "setrlimit", kernel.set)
    file_limit.raise_file_limit()
    assert kernel.limits == (after, before[1])


def test_server_raises_its_file_limit_and_logs_it(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [
            *COMMAND,
            "serve",
            "--port",
            "0",
            "--drain",
            "0",
            "--data-dir",
            str(tmp_path),
            "--log-level",
            "info",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (256, 3000)),
    )
    assert process.stdout is not None
    process.stdout.readline()
    limits = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
    process.terminate()
    _, said = process.communicate(timeout=20)
    assert limits == (3000, 3000)
    assert "at most 3000 files and connections may be open (the limit was 256)" in said


def test_more_connections_than_open_files_are_refused_with_the_source(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("max-connections = 3000\n")
    shown = subprocess.run(
        [*COMMAND, "serve", "--memory", "--config", str(file)],
        check=False,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (256, 3000)),
    )
    assert shown.returncode == 2
    assert shown.stderr == (
        f"Error: 'max-connections' in {file} is 3000, but must be from 1 to 2936: "
        "this process may hold 3000 file handles, and 64 are kept back\n"
    )
