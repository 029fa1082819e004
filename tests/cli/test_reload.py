"""SIGHUP makes a running server read its tokens and its settings file again. `test_listening.py` tests certificates."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from tests.process import run, serve

A = "/v1/stream/a"
TEXT = {"content-type": "text/plain"}
PATIENCE = 10.0  # seconds until a signal must have had its effect


def create_token(file: Path, *more: str) -> str:
    made = run("token", "create", "--file", str(file), "--allow", "create,read:/**", *more)
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


def wait_until(holds: Callable[[], bool]) -> None:
    """Waits for the effect of a signal in another process, which answers nothing."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_sighup_makes_server_read_tokens_again_and_keep_them_if_file_is_broken(
    tmp_path: Path,
) -> None:
    file = tmp_path / "tokens.json"
    first = create_token(file)
    with serve("--memory", "--auth", f"tokens:{file}") as server:

        def status(token: str) -> int:
            headers = {**TEXT, "authorization": f"Bearer {token}"}
            return httpx.put(server.url + A, headers=headers).status_code

        assert status(first) == 201
        second = create_token(file)
        assert status(second) == 401
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: status(second) == 200)
        good = file.read_text()
        file.write_text("{")
        third = tmp_path / "other.json"
        wanted = create_token(third)
        server.process.send_signal(signal.SIGHUP)
        assert status(second) == 200
        file.write_text(good)
        assert run("token", "revoke", "--file", str(file), first.split("_")[1]).returncode == 0
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: status(first) == 401)
        assert (status(second), status(wanted)) == (200, 401)


def test_sighup_changes_settings_that_a_running_server_can_change(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("max-streams = 1\n")
    with serve("--memory", "--config", str(file)) as server:

        def status(name: str) -> int:
            return httpx.put(f"{server.url}/v1/stream/{name}", headers=TEXT).status_code

        assert (status("a"), status("b")) == (201, 429)
        file.write_text("max-streams = 2\npage-size = '64k'\n")
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: status("b") == 201)
        assert status("c") == 429
        file.write_text("max-streems = 3\n")
        server.process.send_signal(signal.SIGHUP)
        assert (status("b"), status("c")) == (200, 429)
        file.write_text("max-streams = 3\n")
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: status("c") == 201)
