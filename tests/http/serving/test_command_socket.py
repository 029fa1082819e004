"""The socket on which a running server obeys commands."""

import asyncio
import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from durable_streams_server.http.serving.command_socket import CommandRefused, CommandSocket, ask
from durable_streams_server.storage.files.directory import COMMANDS
from durable_streams_server.storage.ticket import Abandoned, Ticket


def fail(error: BaseException) -> Ticket[Any]:
    return Ticket.failed(error)


def commands(directory: Path) -> CommandSocket:
    """Returns a socket with one command that works and several that fail."""
    return CommandSocket(
        str(directory),
        {
            "work": lambda: Ticket.of(["done", 1]),
            "fail": lambda: fail(ValueError("no disk")),
            "abandoned": lambda: fail(Abandoned(OSError("the disk has failed"))),
            "silent": lambda: fail(ValueError()),
        },
    )


def names(directory: Path) -> list[str]:
    return os.listdir(directory)


async def asked(directory: Path, command: str) -> Any:
    return await asyncio.to_thread(ask, str(directory), command)


async def raw(directory: Path, octets: bytes) -> bytes:
    """Sends octets to the socket, and returns what comes back."""
    reader, writer = await asyncio.open_unix_connection(str(directory / COMMANDS))
    writer.write(octets)
    writer.write_eof()
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    return answer


async def test_command_returns_its_result(tmp_path: Path) -> None:
    server = commands(tmp_path)
    await server.begin()
    assert await asked(tmp_path, "work") == ["done", 1]
    server.stop()


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("fail", "no disk"),
        ("abandoned", "the disk has failed"),
        ("silent", "ValueError"),
        ("nonsense", "does not know the command"),
    ],
)
async def test_failed_or_unknown_command_is_refused_with_reason(
    tmp_path: Path, command: str, reason: str
) -> None:
    server = commands(tmp_path)
    await server.begin()
    with pytest.raises(CommandRefused, match=reason):
        await asked(tmp_path, command)
    assert await asked(tmp_path, "work") == ["done", 1]
    server.stop()


@pytest.mark.parametrize("octets", [b"", b"\n", b"garbage\n", b"[]\n", b'{"command":[]}\n', b"7\n"])
async def test_garbage_is_refused(tmp_path: Path, octets: bytes) -> None:
    server = commands(tmp_path)
    await server.begin()
    assert b"does not know the command" in await raw(tmp_path, octets)
    server.stop()


async def test_endless_line_is_cut(tmp_path: Path) -> None:
    server = commands(tmp_path)
    await server.begin()
    assert await raw(tmp_path, b"x" * 100_000) == b""
    server.stop()


async def test_only_the_owner_may_connect_and_stop_removes_the_socket(tmp_path: Path) -> None:
    server = commands(tmp_path)
    await server.begin()
    found = (tmp_path / COMMANDS).stat()
    assert stat.S_ISSOCK(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o600
    server.stop()
    server.stop()
    assert names(tmp_path) == []


async def test_socket_of_a_dead_server_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / COMMANDS))
        dead.listen()
    with pytest.raises(ConnectionRefusedError):
        await asked(tmp_path, "work")
    server = commands(tmp_path)
    await server.begin()
    assert await asked(tmp_path, "work") == ["done", 1]
    server.stop()


async def test_directory_with_very_long_path_has_a_socket(tmp_path: Path) -> None:
    directory = tmp_path / ("x" * 200) / ("y" * 200)
    directory.mkdir(parents=True)
    server = commands(directory)
    await server.begin()
    assert await asked(directory, "work") == ["done", 1]
    server.stop()
    assert names(directory) == []


async def test_file_in_place_of_the_socket_is_kept_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / COMMANDS).write_text("precious")
    server = commands(tmp_path)
    await server.begin()
    server.stop()
    assert (tmp_path / COMMANDS).read_text() == "precious"
    assert "this server obeys no commands" in caplog.text


async def test_removed_directory_does_not_fail_the_stop(tmp_path: Path) -> None:
    directory = tmp_path / "a"
    directory.mkdir()
    server = commands(directory)
    await server.begin()
    os.unlink(directory / COMMANDS)
    directory.rmdir()
    server.stop()
    with pytest.raises(FileNotFoundError):
        await asked(directory, "work")


@pytest.mark.parametrize("answer", [b"", b'{"result"', b'{"result": 1}'])
async def test_server_that_ends_before_its_whole_answer_raises_connection_error(
    tmp_path: Path, answer: bytes
) -> None:
    async def end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()  # otherwise the system would reset the connection
        writer.write(answer)
        writer.close()

    server = await asyncio.start_unix_server(end, str(tmp_path / COMMANDS))
    with pytest.raises(ConnectionError):
        await asked(tmp_path, "work")
    server.close()
