"""Signing keys: the commands that list and rotate them, in a directory at rest and in that of a running server."""

import asyncio
import os
import pty
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from durable_streams_server.http.serving.command_socket import Command, CommandSocket
from durable_streams_server.storage.files.catalog import LmdbCatalog
from durable_streams_server.storage.files.directory import COMMANDS
from durable_streams_server.storage.files.wal_sizes import MIN_SIZE
from durable_streams_server.storage.ticket import Ticket
from durable_streams_server.streams.file_store import FileBackedStreamStore
from durable_streams_server.webhooks import WebhookVerificationError, verify
from tests.process import COMMAND, ServerProcess, address_of, launch, launch_with_log, run, serve
from tests.subscriptions.receivers import Receiver, receiver

BASE = "/v1/stream"
JSON = {"content-type": "application/json"}


def rows(shown: subprocess.CompletedProcess[str]) -> list[list[str]]:
    """Returns the table that a successful command has printed."""
    assert shown.returncode == 0, shown.stderr
    return [line.split("\t") for line in shown.stdout.splitlines()]


@contextmanager
def client(server: ServerProcess) -> Iterator[httpx.Client]:
    """Yields a client whose URLs are relative to the stream root."""
    with httpx.Client(base_url=server.url + BASE, headers=JSON, timeout=5) as http:
        yield http


def published(http: httpx.Client) -> list[str]:
    """Returns the ids of the published keys."""
    return [key["kid"] for key in http.get("__ds/jwks.json").json()["keys"]]


def rotate(http: httpx.Client, directory: Path) -> list[str]:
    """Has a running server rotate its keys. Returns the ids of the keys, which the command prints and the server publishes."""
    kids = [row[0] for row in rows(run("keys", "rotate", str(directory)))]
    assert published(http) == kids
    return kids


def claim(http: httpx.Client) -> dict[str, Any]:
    """Creates a pull-wake subscription with a pending event, and returns a claim of its wake."""
    http.put("wakes")
    http.put("a")
    body = {"type": "pull-wake", "streams": ["a"], "wake_stream": "wakes"}
    assert http.put("__ds/subscriptions/s", json=body).status_code == 201
    http.post("a", content="1")
    answer = http.post("__ds/subscriptions/s/claim", json={"worker": "w"})
    assert answer.status_code == 200
    wake: dict[str, Any] = answer.json()
    return wake


def heartbeat(http: httpx.Client, wake: dict[str, Any]) -> int:
    """Extends a claim, and returns the status of the response."""
    body = {"wake_id": wake["wake_id"], "generation": wake["generation"]}
    token = {"authorization": f"Bearer {wake['token']}"}
    return http.post("__ds/subscriptions/s/ack", json=body, headers=token).status_code


def test_rotate_creates_an_active_key_and_keeps_the_old_one_published(tmp_path: Path) -> None:
    flags = ("--data-dir", str(tmp_path))
    with serve(*flags) as server, client(server) as http:
        wake = claim(http)
        (first,) = published(http)
    assert [row[0] for row in rows(run("keys", "list", str(tmp_path)))] == [first]
    active, retired = rows(run("keys", "rotate", str(tmp_path)))
    assert (active[2], retired[0]) == ("active", first)
    assert retired[2].startswith("retired, published until ")
    assert rows(run("keys", "list", str(tmp_path))) == [active, retired]
    with serve(*flags) as server, client(server) as http:
        assert published(http) == [active[0], first]
        assert heartbeat(http, wake) == 200, "a token from before the rotation stays valid"


def test_rotate_creates_the_first_key_of_a_directory(tmp_path: Path) -> None:
    with serve("--data-dir", str(tmp_path)):
        pass
    assert rows(run("keys", "list", str(tmp_path))) == []
    assert [row[2] for row in rows(run("keys", "rotate", str(tmp_path)))] == ["active"]


def test_rotate_keeps_the_size_of_the_write_ahead_log(tmp_path: Path) -> None:
    FileBackedStreamStore(tmp_path, wal_size=MIN_SIZE).close()
    before = sizes(tmp_path)
    assert len(rows(run("keys", "rotate", str(tmp_path)))) == 1
    assert sizes(tmp_path) == before


def sizes(directory: Path) -> dict[str, int]:
    """Returns the sizes of the files that a store preallocates: the segments of its log, and the ballast."""
    files = [*(directory / "wal").iterdir(), directory / "ballast"]
    return {file.name: file.stat().st_size for file in files}


def test_keys_commands_print_no_secret(tmp_path: Path) -> None:
    FileBackedStreamStore(tmp_path).close()
    said = run("keys", "rotate", str(tmp_path)).stdout + run("keys", "list", str(tmp_path)).stdout
    with FileBackedStreamStore(tmp_path) as store:
        (key,) = store.subscriptions.keys
    for secret in (key.seed, key.secret):
        assert secret.hex() not in said
        assert repr(secret) not in said
    assert len(said) < 300


def test_only_the_owner_can_read_files_with_keys(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    FileBackedStreamStore(folder).close()
    rows(run("keys", "rotate", str(folder)))
    found = [folder, *folder.rglob("*")]
    assert len(found) > 5
    for path in found:
        assert path.stat().st_mode & 0o077 == 0, path


def test_commands_on_a_directory_in_use_by_another_program_exit_4(tmp_path: Path) -> None:
    with FileBackedStreamStore(tmp_path):
        shown = run("keys", "rotate", str(tmp_path))
        listed = run("keys", "list", str(tmp_path))
    assert (shown.returncode, listed.returncode) == (4, 4)
    assert (shown.stderr.count("\n"), listed.stderr.count("\n")) == (1, 1)
    assert "in use by another process, which obeys no commands" in shown.stderr
    assert shown.stderr.endswith(": stop it first\n")
    assert run("keys", "rotate", str(tmp_path / "nowhere")).returncode == 4


def test_rotation_that_a_running_server_refuses_exits_1(tmp_path: Path) -> None:
    refuse: dict[str, Command] = {
        "rotate-keys": lambda: Ticket.failed(ValueError("the disk is full"))
    }

    async def answer() -> subprocess.CompletedProcess[str]:
        server = CommandSocket(str(tmp_path), refuse)
        await server.begin()
        try:
            return await asyncio.to_thread(run, "keys", "rotate", str(tmp_path))
        finally:
            server.stop()

    with FileBackedStreamStore(tmp_path):
        shown = asyncio.run(answer())
    assert (shown.returncode, shown.stdout) == (1, "")
    said = f"the server of {tmp_path} did not rotate its keys: the disk is full\n"
    assert shown.stderr == f"durable-streams-server: {said}"


def test_killed_server_leaves_a_socket_that_hinders_no_command(tmp_path: Path) -> None:
    with launch("--data-dir", str(tmp_path)) as server, client(server) as http:
        claim(http)
        server.process.kill()
        server.process.wait()
    assert (tmp_path / COMMANDS).is_socket()
    for command in (["check"], ["check", "--repair"], ["inspect"], ["keys", "list"]):
        shown = run(*command, str(tmp_path))
        assert (shown.returncode, shown.stderr) == (0, ""), command
    assert (tmp_path / COMMANDS).is_socket()
    first = rows(run("keys", "rotate", str(tmp_path)))
    with serve("--data-dir", str(tmp_path)) as server, client(server) as http:
        assert rotate(http, tmp_path)[1:] == [row[0] for row in first]
    assert not (tmp_path / COMMANDS).exists()


def test_rotate_refuses_a_directory_without_a_store_and_creates_nothing(tmp_path: Path) -> None:
    shown = run("keys", "rotate", str(tmp_path))
    assert (shown.returncode, shown.stdout) == (4, "")
    assert list(tmp_path.iterdir()) == []


async def test_running_server_rotates_its_keys_and_signs_with_the_new_one(
    tmp_path: Path,
) -> None:
    async with receiver() as hook:
        with serve("--data-dir", str(tmp_path)) as server:
            async with httpx.AsyncClient(base_url=server.url + BASE, headers=JSON) as http:
                url = f"http://127.0.0.1:{hook.port}/hook"
                body = {"type": "webhook", "streams": ["a"], "webhook": {"url": url}}
                assert (await http.put("__ds/subscriptions/s", json=body)).status_code == 201
                await http.put("a")
                before = (await http.get("__ds/jwks.json")).json()
                await http.post("a", content="1")
                await await_requests(hook, 1)
                with client(server) as plain:
                    old = [key["kid"] for key in before["keys"]]
                    kids = await asyncio.to_thread(rotate, plain, tmp_path)
                after = (await http.get("__ds/jwks.json")).json()
                assert kids[1:] == old
                await http.post("a", content="2")
                await await_requests(hook, 2)
    verify(*signed(hook, 0), after)
    verify(*signed(hook, 1), after)
    with pytest.raises(WebhookVerificationError, match="no such key"):
        verify(*signed(hook, 1), before)


def test_key_rotation_by_running_server_is_durable_and_keeps_old_tokens_valid(
    tmp_path: Path,
) -> None:
    flags = ("--data-dir", str(tmp_path))
    with serve(*flags) as server, client(server) as http:
        wake = claim(http)
        kids = rotate(http, tmp_path)
        assert heartbeat(http, wake) == 200
    assert [row[0] for row in rows(run("keys", "list", str(tmp_path)))] == kids


def test_server_logs_the_id_of_the_new_key(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, "serve", "--port", "0", "--drain", "0", "--data-dir", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    url = process.stdout.readline().split()[-1]
    server = ServerProcess(process, url)
    with client(server) as http:
        kids = rotate(http, tmp_path)
    process.terminate()
    _, said = process.communicate(timeout=10)
    assert process.returncode == 0
    assert f"the keys are rotated: {kids[0]} signs from now on" in said


def test_client_that_sends_no_command_causes_no_log_at_the_stop(tmp_path: Path) -> None:
    flags = ("--port", "0", "--drain", "0", "--data-dir", str(tmp_path))
    with launch_with_log(*flags) as process, socket.socket(socket.AF_UNIX) as silent:
        address_of(process)
        silent.connect(str(tmp_path / "commands.sock"))
        assert run("keys", "rotate", str(tmp_path)).returncode == 0  # accepted after the other
        process.terminate()
        _, said = process.communicate(timeout=10)
    assert process.returncode == 0
    assert said.count("\n") == 1, said  # the line about the rotation


def test_server_stops_when_its_terminal_is_closed(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()

    def take_terminal() -> None:
        os.setsid()
        os.close(
            os.open(os.ttyname(0), os.O_RDWR)
        )  # the first terminal that a session opens becomes its controlling terminal

    process = subprocess.Popen(
        [*COMMAND, "serve", "--port", "0", "--drain", "0", "--data-dir", str(tmp_path)],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=take_terminal,
    )
    os.close(theirs)
    assert process.stdout is not None
    assert process.stdout.readline()
    os.close(ours)
    _, said = process.communicate(timeout=10)
    assert (process.returncode, said) == (0, "")


async def await_requests(hook: Receiver, count: int) -> None:
    """Waits until a receiver has received `count` requests."""
    async with asyncio.timeout(5):
        while len(hook.requests) < count:  # noqa: ASYNC110  # another process sends them
            await asyncio.sleep(0.005)


def signed(hook: Receiver, number: int) -> tuple[bytes, str]:
    """Returns the body and the signature of a delivery."""
    head, body = hook.requests[number]
    lines = [line.split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line]
    headers = {name.lower(): value for name, value in lines}
    return body, headers[b"webhook-signature"].decode()


@pytest.mark.parametrize("name", ["keys", "subscription/s"])
def test_command_on_damaged_catalog_document_prints_one_line_and_exits_4(
    tmp_path: Path, name: str
) -> None:
    FileBackedStreamStore(tmp_path).close()
    catalog = LmdbCatalog(str(tmp_path / "catalog"))
    catalog.commit(catalog.meta(), [], [], {name: b"\xc1"})
    catalog.close()
    directory = str(tmp_path)
    for command in (
        ["keys", "list", directory],
        ["keys", "rotate", directory],
        ["serve", "--port", "0", "--data-dir", directory],
    ):
        shown = run(*command)
        assert (shown.returncode, shown.stdout) == (4, "")
        assert shown.stderr.count("\n") == 1
        assert f"the document '{name}' is damaged" in shown.stderr
