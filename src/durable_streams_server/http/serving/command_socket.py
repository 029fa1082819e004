"""The Unix socket in the data directory on which a running server obeys commands of its owner, such as `keys rotate`.

Only the owner of the directory can connect (mode 600). A client sends one JSON document in a line, `{"command": …}`, and gets one in
return: `{"result": …}` or `{"error": …}`. The server holds the lock of the directory, so a socket that it finds there belongs to a dead
server, and is replaced.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import stat
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from ...log import log as _log
from ...storage.files.directory import COMMANDS
from ...storage.ticket import Ticket
from ...streams.tickets import write_result

#: Seconds that the other side may take for its line.
_PATIENCE: Final = 10.0
#: Maximum bytes of the path of a Unix socket: 108 on Linux and 104 on macOS, both with a final zero.
_LONGEST_PATH: Final = 107 if sys.platform == "linux" else 103
_MODE: Final = 0o600

Command = Callable[[], Ticket[Any]]


class CommandRefused(Exception):
    """The server could not carry out a command. The message says why in one line."""


class CommandSocket:
    """Listens for commands in a data directory.

    Args:
        directory: the data directory, which this process has locked.
        commands: the commands by their names. Each returns a ticket for a result that JSON can express.
    """

    def __init__(self, directory: str, commands: Mapping[str, Command]) -> None:
        self._path = directory
        self._commands = commands
        self._directory = -1
        self._inode = 0
        self._server: asyncio.AbstractServer | None = None

    async def begin(self) -> None:
        """Begins to listen on the running event loop. If the file system allows no sockets, logs that and goes on without one."""
        try:
            self._directory = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            listening = self._bind()
        except OSError as error:
            self._forget_directory()
            _log.warning("this server obeys no commands, such as keys rotate: %s", error)
            return
        self._server = await asyncio.start_unix_server(self._serve, sock=listening)

    def stop(self) -> None:
        """Stops listening, and removes the socket."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        with contextlib.suppress(FileNotFoundError):
            if os.stat(COMMANDS, dir_fd=self._directory).st_ino == self._inode:
                os.unlink(COMMANDS, dir_fd=self._directory)
        self._forget_directory()

    def _bind(self) -> socket.socket:
        """Returns the listening socket, after removing the socket of a dead server."""
        with contextlib.suppress(FileNotFoundError):
            found = os.stat(COMMANDS, dir_fd=self._directory, follow_symlinks=False)
            if not stat.S_ISSOCK(found.st_mode):
                raise FileExistsError(errno.EEXIST, f"{COMMANDS} is a file that is no socket")
            os.unlink(COMMANDS, dir_fd=self._directory)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with contextlib.suppress(OSError):  # not on macOS
                os.fchmod(listening.fileno(), _MODE)  # so that nobody can connect before `chmod`
            listening.bind(_reachable_path(self._path, self._directory))
            os.chmod(COMMANDS, _MODE, dir_fd=self._directory)
            self._inode = os.stat(COMMANDS, dir_fd=self._directory).st_ino
            listening.listen()
        except BaseException:
            listening.close()
            raise
        return listening

    def _forget_directory(self) -> None:
        if self._directory >= 0:
            os.close(self._directory)
            self._directory = -1

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers one client."""
        try:
            async with asyncio.timeout(_PATIENCE):
                line = await reader.readline()
            writer.write(msgspec.json.encode(await self._answer(line)) + b"\n")
            await writer.drain()
        except (OSError, ValueError, asyncio.CancelledError):
            return  # the client has left or sent an endless line, or the server ends, which asyncio would log
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request: Any = msgspec.json.decode(line)
            command = self._commands.get(request["command"])
        except (msgspec.DecodeError, KeyError, TypeError):
            command = None
        if command is None:
            return {"error": "this server does not know the command"}
        try:
            return {"result": await write_result(command())}
        except Exception as error:
            return {"error": str(error) or type(error).__name__}


def ask(directory: str, command: str) -> Any:
    """Sends a command to the server that uses a data directory, waits for it, and returns the result.

    Raises:
        OSError: no server listens there, or its answer does not come in time.
        CommandRefused: the server could not carry out the command.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(_PATIENCE)
            client.connect(_reachable_path(directory, descriptor))
            client.sendall(msgspec.json.encode({"command": command}) + b"\n")
            with client.makefile("rb") as answers:
                line = answers.readline()
    finally:
        os.close(descriptor)
    if not line.endswith(b"\n"):
        raise ConnectionResetError(errno.ECONNRESET, "the server ended before it answered")
    answer: dict[str, Any] = msgspec.json.decode(line)
    if "error" in answer:
        raise CommandRefused(answer["error"])
    return answer["result"]


def _reachable_path(directory: str, descriptor: int) -> str:
    """Returns a path of the socket that is short enough for the system, through the open directory if necessary."""
    path = os.path.join(directory, COMMANDS)
    if len(os.fsencode(path)) > _LONGEST_PATH and sys.platform == "linux":
        return f"/proc/self/fd/{descriptor}/{COMMANDS}"
    return path
