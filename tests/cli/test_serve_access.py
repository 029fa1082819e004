"""`serve` with tokens, and `serve` on loopback without them: who is let in."""

from pathlib import Path

import httpx
import pytest

from tests.process import run, serve

A = "/v1/stream/a"
TEXT = {"content-type": "text/plain"}


@pytest.mark.parametrize("lane", ["native", "asgi"])
def test_server_with_tokens_lets_in_only_clients_with_a_token(lane: str, tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    made = run("token", "create", "--file", str(file), "--allow", "create,read:/v1/stream/*")
    token = made.stdout.strip()
    with serve("--memory", "--http", lane, "--auth", f"tokens:{file}") as server:
        assert httpx.put(server.url + A, headers=TEXT).status_code == 401
        bearer = {**TEXT, "authorization": f"Bearer {token}"}
        assert httpx.put(server.url + A, headers=bearer).status_code == 201
        assert httpx.post(server.url + A, headers=bearer, content=b"x").status_code == 403
        cookie = {"cookie": f"durable_streams_token={token}"}
        assert httpx.get(server.url + A, headers=cookie).status_code == 200
        foreign = {**cookie, "origin": "https://evil.example"}
        assert httpx.get(server.url + A, headers=foreign).status_code == 401
        any_host = {**bearer, "host": "streams.example"}
        assert httpx.get(server.url + A, headers=any_host).status_code == 200


@pytest.mark.parametrize("lane", ["native", "asgi"])
def test_server_on_loopback_without_tokens_keeps_rebound_pages_out(lane: str) -> None:
    flags = ("--memory", "--http", lane, "--allowed-host", "streams.example")
    with serve(*flags) as server:
        found = {
            host: httpx.get(server.url + A, headers={"host": host}).status_code
            for host in ("evil.example", "127.0.0.1:1", "localhost", "streams.example")
        }
    assert found == {
        "evil.example": 421,
        "127.0.0.1:1": 404,
        "localhost": 404,
        "streams.example": 404,
    }


def test_broken_token_file_prints_one_line_and_exits_2(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    file.touch(0o600)
    file.write_text('{"secret')
    shown = run("serve", "--memory", "--port", "0", "--auth", f"tokens:{file}")
    assert shown.returncode == 2
    assert shown.stderr == f"Error: {file}: it is not JSON\n"
