"""The servers that are compared: how to start each on its own core, and how to read its CPU time and memory."""

import contextlib
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

HERE: Final = Path(__file__).parent
SCRATCH: Final = HERE / "scratch"  # on the disk to measure, because /tmp may be in memory
SERVER_CORE: Final = 0
LOAD_CORE: Final = 1
_RUST: Final = HERE / ".rust/bin/durable-streams-server"
_CADDY: Final = HERE / ".caddy/caddy"
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PATIENCE: Final = 60.0  # seconds within which a server must answer
#: Settings of this project's servers. They are variables, because an older checkout does not know their flags.
_ENVIRONMENT: Final = {"DURABLE_STREAMS_DRAIN": "0"}
_GRACE: Final = 5.0  # seconds after which a server that does not stop is killed


class Kind(NamedTuple):
    """One server in one mode.

    Attributes:
        title: the title in tables.
        command: a function that returns the command to run the server on a port and a directory.
        is_durable: whether the server answers an append only once it is on disk.
        needs: the program that must be installed, or None.
        source: the directory of this project's source, for servers of this project.
    """

    title: str
    command: Callable[[int, str], list[str]]
    is_durable: bool = False
    needs: Path | None = None
    source: Path = HERE.parent / "src"


class Running(NamedTuple):
    """A running server."""

    kind: str
    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        """The base URL of the server."""
        return f"http://127.0.0.1:{self.port}"

    def cpu(self) -> float:
        """Returns the CPU seconds that all threads of the server have used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def loop_cpu(self) -> float:
        """Returns the CPU seconds that the server's main thread has used. In every server here, it runs the event loop."""
        of_thread = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/schedstat")
        return int(of_thread.read_text().split()[0]) / 1e9

    def resident(self) -> int:
        """Returns the server's resident memory in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+)", status)
        assert found is not None
        return int(found[1]) * 1024


def _this(*flags: str) -> Callable[[int, str], list[str]]:
    program = "from durable_streams_server.cli import main; main()"

    def command(port: int, directory: str) -> list[str]:
        where = [] if "--memory" in flags else ["--data-dir", directory]
        return [sys.executable, "-c", program, "serve", "--port", str(port), *where, *flags]

    return command


def _node(port: int, directory: str) -> list[str]:
    return ["node", str(HERE / "node_server.mjs"), str(port), *([directory] if directory else [])]


def _rakaia(port: int, _: str) -> list[str]:
    python = str(HERE / ".venv/bin/python")
    options = ("--log-level", "warning", "--no-access-log", "--loop", "uvloop")
    return [python, "-m", "uvicorn", "rakaia:app", "--port", str(port), *options]


def _rust(*flags: str) -> Callable[[int, str], list[str]]:
    def command(port: int, directory: str) -> list[str]:
        return [str(_RUST), "--port", str(port), "--data-dir", directory, *flags]

    return command


def _caddy(stored: str) -> Callable[[int, str], list[str]]:
    """Returns the command of Caddy. `stored` is the option for the storage of streams, in which `#` stands for the directory."""

    def command(port: int, directory: str) -> list[str]:
        options = stored.replace("#", directory)
        config = Path(directory) / "Caddyfile"
        config.write_text(
            f"{{\nadmin off\npersist_config off\nauto_https off\nstorage file_system {directory}/caddy\n}}\n"
            f"http://127.0.0.1:{port} {{\nroute /v1/stream/* {{\ndurable_streams {{\n{options}\n}}\n}}\n}}\n"
        )
        return [str(_CADDY), "run", "--adapter", "caddyfile", "--config", str(config)]

    return command


KINDS: Final = {
    "memory": Kind("this, memory", _this("--memory")),
    "files": Kind("this, files", _this(), True),
    "asgi": Kind("this, ASGI, memory", _this("--memory", "--http", "asgi")),
    "asgi-files": Kind("this, ASGI, files", _this("--http", "asgi"), True),
    "node": Kind("Node, memory", lambda port, _: _node(port, "")),
    "node-files": Kind("Node, files", _node, True),
    "rust": Kind("Rust, memory", _rust("--durability", "memory"), needs=_RUST),
    "rust-files": Kind("Rust, files", _rust("--durability", "wal"), True, needs=_RUST),
    "caddy": Kind("Caddy, memory", _caddy(""), needs=_CADDY),
    "caddy-files": Kind("Caddy, files", _caddy("data_dir #/streams"), True, needs=_CADDY),
    "rakaia": Kind("rakaia, memory", _rakaia),
}
OURS: Final = ("memory", "files")
PEERS: Final = ("node", "caddy", "rust")  # kinds in memory; the durable kinds end in `-files`
ALL_PEERS: Final = (*OURS, *(f"{peer}{mode}" for peer in PEERS for mode in ("", "-files")))


def left_out() -> dict[str, Path]:
    """Returns the kinds that cannot run here, each with its missing program."""
    return {
        name: kind.needs for name, kind in KINDS.items() if kind.needs and not kind.needs.exists()
    }


@contextlib.contextmanager
def running(kind: str, *wrapper: str) -> Iterator[Running]:
    """Runs a server with an empty store until the block ends."""
    SCRATCH.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=SCRATCH) as directory:
        with running_on(kind, directory, *wrapper) as server:
            yield server


@contextlib.contextmanager
def running_on(kind: str, directory: str, *wrapper: str) -> Iterator[Running]:
    """Runs a server on a data directory until the block ends. `wrapper` is a command to run the server under, such as a profiler."""
    port = free_port()
    command = [*wrapper, *KINDS[kind].command(port, directory)]
    process = subprocess.Popen(
        ["taskset", "-c", str(SERVER_CORE), *command],
        stdout=subprocess.DEVNULL,
        env={**os.environ, **_ENVIRONMENT},
    )
    try:
        _await_answer(process, port)
        yield Running(kind, port, process)
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_GRACE)
    except subprocess.TimeoutExpired:
        process.kill()  # some servers wait for their readers
        process.wait()


def free_port() -> int:
    """Returns a free port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def _await_answer(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server has ended with {process.returncode}")
        try:
            with socket.create_connection(("127.0.0.1", port), 1) as asking:
                asking.settimeout(_PATIENCE)  # a server may listen before it has loaded its data
                asking.sendall(b"HEAD /v1/stream/none HTTP/1.1\r\nHost: localhost\r\n\r\n")
                if asking.recv(1):
                    return
        except OSError:
            time.sleep(0.02)
    raise RuntimeError("the server does not answer")
