"""Runs the command in processes that a prepared process forks, because importing the package takes half a second of processor time.

The prepared process has imported everything and waits on a socket. For each command it forks a guard, and the guard forks the command itself.
The guard sends the process id, waits for the end of the command, and sends the exit code. The command ends as any Python program does.
"""

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import pkgutil
import resource
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final

import durable_streams_server
from durable_streams_server.cli.main import main

#: Modules of other packages that a server imports when it first needs them.
_LATE: Final = ("anyio._backends._asyncio", "uvicorn.lifespan.on", "uvloop")
_DESCRIPTORS: Final = (
    3  # standard output, standard error, and the pipe for process id and exit code
)
_LARGEST_REQUEST: Final = 1 << 16  # bytes


class ForkedProcess:
    """A running command, with the methods of `subprocess.Popen` that tests use.

    Attributes:
        pid: the process id of the command.
        stdout: the standard output, if it is a pipe.
        returncode: the exit code, or minus the signal that ended the command; None while it runs.
    """

    def __init__(self, pid: int, status: IO[bytes], stdout: IO[str] | None) -> None:
        self.pid = pid
        self.stdout = stdout
        self.returncode: int | None = None
        self._status = status

    def poll(self) -> int | None:
        """Returns the exit code if the command has ended, and None otherwise."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """Waits for the end of the command, and returns its exit code.

        Raises:
            TimeoutExpired: the command still runs after `timeout` seconds.
        """
        if self.returncode is None:
            if not _is_readable(self._status, timeout):
                raise subprocess.TimeoutExpired("durable-streams-server", timeout or 0.0)
            self.returncode = int(self._status.readline())
            self._status.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Sends a signal, unless the command has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Sends SIGKILL, unless the command has ended."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Sends SIGTERM, unless the command has ended."""
        self.send_signal(signal.SIGTERM)


def _is_readable(file: IO[bytes], timeout: float | None) -> bool:
    poller = select.poll()
    poller.register(file, select.POLLIN)
    return bool(poller.poll(None if timeout is None else timeout * 1000))


def start(
    arguments: Sequence[str],
    *,
    pipes_output: bool = False,
    stdout: int = 1,
    stderr: int = 2,
    limits: Mapping[int, int] | None = None,
) -> ForkedProcess:
    """Starts the command with arguments, in the directory and with the environment of the first call.

    Args:
        arguments: command-line arguments.
        pipes_output: whether standard output is a pipe, which `ForkedProcess.stdout` reads.
        stdout: the descriptor for standard output, if it is not a pipe.
        stderr: the descriptor for standard error.
        limits: resource limits by their constants, soft and hard alike.
    """
    status, status_end = os.pipe()
    output, output_end = os.pipe() if pipes_output else (None, stdout)
    request = json.dumps({"arguments": list(arguments), "limits": [*(limits or {}).items()]})
    descriptors = [output_end, stderr, status_end]
    socket.send_fds(_prepared(), [request.encode()], descriptors)
    os.close(status_end)
    if output is not None:
        os.close(output_end)
    file = os.fdopen(status, "rb", buffering=0)  # `poll` sees only what is not in a buffer
    pid = int(file.readline())
    return ForkedProcess(pid, file, None if output is None else os.fdopen(output))


@functools.cache
def _prepared() -> socket.socket:
    """Starts the prepared process of this test process, and returns the socket to it."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.prefork", str(its.fileno())],
        pass_fds=[its.fileno()],
        cwd=Path(__file__).parents[1],
    )
    its.close()
    atexit.register(_end, ours, process)
    return ours


def _end(ours: socket.socket, process: subprocess.Popen[bytes]) -> None:
    """Ends the prepared process by closing the socket to it."""
    ours.close()
    process.wait()


# -- in the prepared process ------------------------------------------------


def import_everything() -> None:
    """Imports all modules that the command may need."""
    name = durable_streams_server.__name__
    for module in pkgutil.walk_packages(durable_streams_server.__path__, f"{name}."):
        if not module.name.startswith((f"{name}.testing", f"{name}.__main__")):
            importlib.import_module(module.name)
    for late in _LATE:
        with contextlib.suppress(ImportError):
            importlib.import_module(late)
    gc.freeze()  # so that garbage collections in the children do not copy shared memory


def _serve(connection: socket.socket) -> None:
    """Forks for each request until the tests close the socket."""
    while True:
        request, descriptors, _, _ = socket.recv_fds(connection, _LARGEST_REQUEST, _DESCRIPTORS)
        if not request:
            return
        if os.fork() == 0:
            connection.close()
            _run(json.loads(request), *descriptors)
            return
        for descriptor in descriptors:
            os.close(descriptor)


def _run(request: dict[str, Any], output: int, errors: int, status: int) -> None:
    """Runs a command in a further child, and reports its process id and its exit code.

    Only the command returns from here, if it does not exit by itself.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # so that the exit code can be read
    pid = os.fork()
    if pid:
        os.close(output)
        os.close(errors)
        os.write(status, b"%d\n" % pid)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.write(status, b"%d\n" % code)
        os._exit(0)
    os.dup2(output, 1)
    os.dup2(errors, 2)
    os.closerange(3, 256)
    for kind, limit in request["limits"]:
        resource.setrlimit(kind, (limit, limit))
    main(request["arguments"])


if __name__ == "__main__":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so that the system removes ended children
    import_everything()
    _serve(socket.socket(fileno=int(sys.argv[1])))
