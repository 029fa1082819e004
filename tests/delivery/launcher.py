"""Starts servers whose wall clock a test can set: `python -m tests.delivery.launcher`, which `server.py` runs.

The launcher imports the whole package once and forks for each command, because a start from nothing costs half a second of work.
It reads one JSON document a line from its standard input and answers each with one line:

    {"run": ["serve", ...], "clock": "file", "output": "file"}  ->  the process id
    {"wait": 1234}                                              ->  the exit code of that process, once it has ended

The file of a clock holds eight bytes, the microseconds to add to the machine's clock. The server maps the file, so a change counts at
once.
"""

import contextlib
import gc
import importlib
import json
import mmap
import os
import pkgutil
import ssl
import struct
import sys
import time
from typing import Any, NoReturn

import durable_streams_server
from durable_streams_server.cli.main import main
from durable_streams_server.streams.clock import SystemClock

#: Modules of others that a server imports only when it needs them.
LATE = ("anyio._backends._asyncio", "uvicorn.lifespan.on", "uvloop")
OFFSET = struct.Struct("<q")


def import_everything() -> None:
    """Imports what a server would import later."""
    name = durable_streams_server.__name__
    for module in pkgutil.walk_packages(durable_streams_server.__path__, f"{name}."):
        if not module.name.startswith((f"{name}.testing", f"{name}.__main__")):
            importlib.import_module(module.name)
    for late in LATE:
        with contextlib.suppress(ImportError):
            importlib.import_module(late)
    trusted = ssl.create_default_context()  # takes long to load, and no webhook of a trial uses TLS
    ssl.create_default_context = lambda *_, **__: trusted
    gc.freeze()  # so that collections in the children touch no memory that they share


def shift_clock(path: str) -> None:
    """Adds the offset in a file to the wall clock of this process."""
    with open(path, "r+b") as file:
        shown = mmap.mmap(file.fileno(), OFFSET.size)

    def now(_: SystemClock) -> int:
        return time.time_ns() // 1000 + int(OFFSET.unpack_from(shown)[0])

    SystemClock.__call__ = now  # type: ignore[assignment,method-assign]


def become(command: dict[str, Any]) -> NoReturn:
    """Turns a forked child into the command."""
    shift_clock(command["clock"])
    output = os.open(command["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    try:
        main(command["run"])
    except SystemExit as end:
        os._exit(end.code if isinstance(end.code, int) else 1)
    finally:
        sys.stdout.flush()
    os._exit(0)


def loop() -> None:
    """Serves commands until the standard input ends."""
    import_everything()
    print("ready", flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        if "run" in command:
            answer = os.fork()
            if answer == 0:
                become(command)
        else:
            answer = os.waitstatus_to_exitcode(os.waitpid(command["wait"], 0)[1])
        print(answer, flush=True)


if __name__ == "__main__":
    loop()
