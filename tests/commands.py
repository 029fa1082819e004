"""Runs many commands as processes of their own, from one that has imported the package: a tenth of a second each."""

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


class Shown(NamedTuple):
    """What a command came to."""

    returncode: int
    stdout: bytes
    stderr: bytes


def run_all(
    commands: Sequence[Sequence[str]], preexec_fn: Callable[[], None] | None = None
) -> list[Shown]:
    """Returns what each command came to; outputs are as strict as they can be about what they can encode."""
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
            Shown(int(read(number, "code")), read(number, "out"), read(number, "err"))
            for number in range(len(commands))
        ]
