"""SIGHUP makes a running server read its tokens and its settings file again. `test_listening.py` tests certificates."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.process import STOP_TIMEOUT, address_of, launch_with_log, run

A = "/v1/stream/a"
TEXT = {"content-type": "text/plain"}


def create_token(file: Path, *more: str) -> str:
    made = run("token", "create", "--file", str(file), "--allow", "create,read:/**", *more)
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


@contextmanager
def serving(*flags: str) -> Iterator[subprocess.Popen[str]]:
    """Runs a server in memory, which must exit with code 0 after SIGTERM at the end of the block."""
    with launch_with_log("--memory", "--port", "0", *flags) as process:
        yield process
        process.terminate()
        assert process.wait(STOP_TIMEOUT) == 0


def hang_up(process: subprocess.Popen[str]) -> str:
    """Sends SIGHUP, waits until the server has read its files again, and returns the line of its log that says so."""
    process.send_signal(signal.SIGHUP)
    assert process.stderr is not None
    for line in process.stderr:
        if "reload" in line:
            return line
    raise AssertionError("the server ended instead")


def test_sighup_makes_server_read_tokens_again_and_keep_them_if_file_is_broken(
    tmp_path: Path,
) -> None:
    file = tmp_path / "tokens.json"
    first = create_token(file)
    with serving("--auth", f"tokens:{file}") as process:
        url = address_of(process) + A

        def status(token: str) -> int:
            headers = {**TEXT, "authorization": f"Bearer {token}"}
            return httpx.put(url, headers=headers).status_code

        assert status(first) == 201
        second = create_token(file)
        assert status(second) == 401
        assert "reloaded the tokens" in hang_up(process)
        assert status(second) == 200
        good = file.read_text()
        file.write_text("{")
        assert "reload of the tokens failed" in hang_up(process)
        assert (status(first), status(second)) == (200, 200)
        file.write_text(good)
        assert run("token", "revoke", "--file", str(file), first.split("_")[1]).returncode == 0
        assert "reloaded the tokens" in hang_up(process)
        assert (status(first), status(second)) == (401, 200)


def test_sighup_changes_settings_that_a_running_server_can_change(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("max-streams = 1\n")
    with serving("--config", str(file)) as process:
        root = f"{address_of(process)}/v1/stream"

        def status(name: str) -> int:
            return httpx.put(f"{root}/{name}", headers=TEXT).status_code

        assert (status("a"), status("b")) == (201, 429)
        file.write_text("max-streams = 2\npage-size = '64k'\n")
        assert "reloaded the settings" in hang_up(process)
        assert (status("b"), status("c")) == (201, 429)
        file.write_text("max-streems = 3\n")
        assert "reload of the settings failed" in hang_up(process)
        assert (status("b"), status("c")) == (200, 429)
        file.write_text("max-streams = 3\n")
        assert "reloaded the settings" in hang_up(process)
        assert status("c") == 201
