"""The flags of `serve`: their help, values that are refused, and flags that exclude each other."""

import subprocess
from pathlib import Path
from typing import Final

import httpx
import pytest
from click.testing import CliRunner

from durable_streams_server.cli import main
from tests.commands import run_all
from tests.process import COMMAND, run, serve

STREAM = "/v1/stream/a"
TEXT = {"content-type": "text/plain"}


BAD: Final = [
    ["--nonsense"],
    ["--port", "x"],
    ["--port", "-1"],
    ["--page-size", "1023"],
    ["--page-size", "4q"],
    ["--page-size", "2g"],
    ["--max-body", "0"],
    ["--wal-size", "6143k"],
    ["--wal-size", "7g"],
    ["--wal-size", "300m"],
    ["--wal-size", "12m", "--max-body", "2m"],
    ["--max-body", "1g"],
    ["--max-body", "257m"],
    ["--max-body", "999999999999999g"],
    ["--host", ""],
    ["--host", "\udcff"],
    ["--body-timeout", "0"],
    ["--body-timeout", "nan"],
    ["--max-connections", "0"],
    ["--memory", "--max-connections", "9999999999"],
    ["--max-connections-per-address", "0"],
    ["--long-poll-timeout", "0"],
    ["--long-poll-timeout", "soon"],
    ["--long-poll-timeout", "nan"],
    ["--sse-max-age", "-1"],
    ["--sse-max-age", "inf"],
    ["--log-level", "loud"],
    ["--drain", "-1"],
    ["--drain", "3601"],
    ["--drain", "nan"],
    ["--slow-log", "nan"],
    ["--drain", "soon"],
    ["--memory", "--host", "0.0.0.0"],
    ["--memory", "--host", "::"],
    ["--memory", "--host", "192.0.2.1"],
    ["--memory", "--host", "example.com"],
    ["--stream-root", "/a/../b"],
    ["--cors-origin", "not an origin"],
    ["--cors-origin", "none", "--cors-origin", "*"],
    ["--shared-cache-age", "-1"],
    ["--shared-cache-age", "1.5"],
    ["--shared-cache-age", "2147483648"],
    ["nonsense"],
]


def test_bad_flag_or_value_prints_one_line_and_exits_2() -> None:
    for arguments, shown in zip(BAD, run_all(BAD), strict=True):
        assert shown.returncode == 2, arguments
        assert shown.stderr.startswith(b"Error: "), arguments
        assert shown.stderr.count(b"\n") == 1, arguments


@pytest.mark.parametrize(
    "flags",
    [
        ("--data-dir", "x"),
        ("--data-dir", "./durable-streams-data"),
        ("--no-create",),
        ("--wal-size", "60m"),
    ],
    ids=" ".join,
)
def test_memory_flag_with_a_data_directory_flag_exits_2(
    flags: tuple[str, ...], tmp_path: Path
) -> None:
    shown = subprocess.run(
        [*COMMAND, "serve", "--memory", *flags, "--port", "0"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert shown.returncode == 2
    assert shown.stderr == f"Error: --memory and {flags[0]} exclude each other\n"
    assert not [*tmp_path.iterdir()]


def test_address_that_other_machines_reach_needs_auth_or_no_auth() -> None:
    shown = run("serve", "--memory", "--port", "0", "--host", "0.0.0.0")
    assert (shown.returncode, shown.stdout) == (2, "")
    assert "--host 0.0.0.0 lets other machines reach every stream" in shown.stderr
    assert "--auth" in shown.stderr
    assert "--no-auth" in shown.stderr
    for flags in (("--host", "0.0.0.0", "--no-auth"), ("--host", "localhost"), ("--no-auth",)):
        with serve("--memory", *flags) as server:
            url = server.url.replace("0.0.0.0", "127.0.0.1")
            assert httpx.put(url + STREAM, headers=TEXT).status_code == 201


def test_help_lists_every_flag_and_the_exit_codes() -> None:
    shown = CliRunner().invoke(main, ["serve", "--help"])
    assert shown.exit_code == 0
    for flag in (
        "--host",
        "--port",
        "--uds",
        "--tls-cert",
        "--tls-key",
        "--data-dir",
        "--no-create",
        "--memory",
        "--long-poll-timeout",
        "--sse-max-age",
        "--page-size",
        "--max-body",
        "--wal-size",
        "--body-timeout",
        "--max-connections",
        "--max-connections-per-address",
        "--cors-origin",
        "--shared-cache-age",
        "--stream-root",
        "--log-level",
        "--no-auth",
        "--drain",
    ):
        assert flag in shown.output
    assert "Exit codes" in shown.output


def test_wal_size_too_small_for_max_body_prints_the_smallest_that_fits(
    tmp_path: Path,
) -> None:
    flags = ["--data-dir", str(tmp_path / "data"), "--max-body", "2m"]
    shown = run("serve", *flags, "--wal-size", "12m")
    assert shown.stderr.startswith("Error: --wal-size 12582912 is too small for --max-body 2097152")
    needed = int(shown.stderr.split()[-1])
    shown = run("serve", *flags, "--wal-size", str(needed - 1))
    assert shown.returncode == 2
    with (
        serve(*flags, "--wal-size", str(needed)) as server,
        httpx.Client(base_url=server.url, headers=TEXT) as http,
    ):
        http.put(STREAM)
        taken = 0
        while taken < 20:  # the server answers 503 while a checkpoint makes room
            answer = http.post(STREAM, content=b"x" * 2 * 1024 * 1024)
            assert answer.status_code in (204, 503)
            taken += answer.status_code == 204
        log = sum(file.stat().st_size for file in (tmp_path / "data" / "wal").iterdir())
        assert log <= needed
