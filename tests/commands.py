"""Runs many commands, each in its own process. A command takes only 0.1 s, because it is forked from a process that has imported the package.

`tests/prefork.py` does the same for servers. The program here starts anew for each call, because a capability that `privileges.py` drops is
lost only when a new program starts.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import NamedTuple

_PROGRAM = """if True:
    import json, os, sys
    from durable_streams_server.cli import main
    for number, arguments in enumerate(json.load(sys.stdin)):
        child = os.fork()
        if child == 0:
            for name, descriptor in (("out", 1), ("err", 2)):
                os.dup2(os.open(f"{sys.argv[1]}/{number}.{name}", os.O_WRONLY | os.O_CREAT), descriptor)
            main(arguments)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        with open(f"{sys.argv[1]}/{number}.code", "w") as file:
            file.write(str(code))
"""


class CommandResult(NamedTuple):
    """The exit code and the output of a command."""

    returncode: int
    stdout: bytes
    stderr: bytes


def run_all(
    commands: Sequence[Sequence[str]], preexec_fn: Callable[[], None] | None = None
) -> list[CommandResult]:
    """Runs commands and returns their results. Standard output and standard error refuse text that is not valid UTF-8.

    Args:
        commands: the arguments of each command.
        preexec_fn: called in the child process before the program starts.
    """
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run(
            [sys.executable, "-c", _PROGRAM, directory],
            input=json.dumps(commands).encode(),
            env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},
            preexec_fn=preexec_fn,
            timeout=120,
            check=True,
        )

        def read(number: int, name: str) -> bytes:
            with open(f"{directory}/{number}.{name}", "rb") as file:
                return file.read()

        return [
            CommandResult(int(read(number, "code")), read(number, "out"), read(number, "err"))
            for number in range(len(commands))
        ]
