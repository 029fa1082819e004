"""Starts servers whose wall clock a test can set. `server.py` runs this program as `python -m tests.delivery.launcher`.

The launcher imports the whole package once and forks for each command, because the imports take half a second.
It reads one JSON document per line from its standard input, and answers each with one line:

    {"run": ["serve", ...], "clock": "file", "output": "file"}  ->  the process id
    {"wait": 1234}                                              ->  the exit code of that process, once it has ended

The file of a clock holds eight bytes: the microseconds to add to the machine's clock. The server maps the file into its memory, so a
change takes effect immediately.
"""

import gc
import json
import mmap
import os
import ssl
import struct
import sys
import time
from typing import Any, NoReturn

from durable_streams_server.cli.main import main
from durable_streams_server.streams.clock import SystemClock
from tests.prefork import import_everything

OFFSET = struct.Struct("<q")


def shift_clock(path: str) -> None:
    """Adds the offset in a file to the wall clock of this process."""
    with open(path, "r+b") as file:
        offset = mmap.mmap(file.fileno(), OFFSET.size)

    def now(_: SystemClock) -> int:
        return time.time_ns() // 1000 + int(OFFSET.unpack_from(offset)[0])

    SystemClock.__call__ = now  # type: ignore[assignment,method-assign]  # replaces the clock of the whole process


def run_in_child(command: dict[str, Any]) -> NoReturn:
    """Runs a command in a forked child, and ends the child."""
    shift_clock(command["clock"])
    output = os.open(command["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - stays open until the process ends
    sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115 - stays open until the process ends
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115 - stays open until the process ends
    try:
        main(command["run"])
    except SystemExit as end:
        os._exit(end.code if isinstance(end.code, int) else 1)
    finally:
        sys.stdout.flush()
    os._exit(0)


def run_commands() -> None:
    """Reads and runs commands until the standard input ends."""
    import_everything()
    trusted = (
        ssl.create_default_context()
    )  # loading it takes long, and no webhook of a trial uses TLS
    ssl.create_default_context = lambda *_, **__: trusted
    gc.freeze()  # so that garbage collections in the children do not copy shared memory
    print("ready", flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        if "run" in command:
            answer = os.fork()
            if answer == 0:
                run_in_child(command)
        else:
            answer = os.waitstatus_to_exitcode(os.waitpid(command["wait"], 0)[1])
        print(answer, flush=True)


if __name__ == "__main__":
    run_commands()
