"""The servers that are compared, each on a core of its own, and what the system says of them."""

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
SCRATCH: Final = HERE / "scratch"  # on the disk that is measured, which /tmp may not be
SERVER_CORE: Final = 0
LOAD_CORE: Final = 1
_RUST: Final = HERE / ".rust/bin/durable-streams-server"
_CADDY: Final = HERE / ".caddy/caddy"
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PATIENCE: Final = 60.0  # seconds until a server must answer
_GRACE: Final = 5.0  # seconds until a server that does not stop is ended


class Kind(NamedTuple):
    """One server in one mode.

    Attributes:
        title: what tables call it.
        command: returns the command that runs it, given its port and its directory.
        is_durable: whether it answers an append once it is on the disk.
        needs: the program without which it is left out.
        source: where Python finds this server, if it is one of this project.
    """

    title: str
    command: Callable[[int, str], list[str]]
    is_durable: bool = False
    needs: Path | None = None
    source: Path = HERE.parent / "src"


class Running(NamedTuple):
    """A server that runs."""

    kind: str
    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def cpu(self) -> float:
        """Returns the CPU seconds that all its threads have used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def loop_cpu(self) -> float:
        """Returns the CPU seconds that the main thread has used, which runs the event loop of every server here."""
        of_thread = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/schedstat")
        return int(of_thread.read_text().split()[0]) / 1e9

    def resident(self) -> int:
        """Returns its resident memory in bytes."""
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
    """`stored` is the option that says where streams are stored; `#` stands for the directory."""

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
PEERS: Final = ("node", "caddy", "rust")  # in memory; with `-files`, durable
ALL_PEERS: Final = (*OURS, *(f"{peer}{mode}" for peer in PEERS for mode in ("", "-files")))


def left_out() -> dict[str, Path]:
    """Returns the kinds that cannot be run here, each with the program that it lacks."""
    return {
        name: kind.needs for name, kind in KINDS.items() if kind.needs and not kind.needs.exists()
    }


@contextlib.contextmanager
def running(kind: str, *wrapper: str) -> Iterator[Running]:
    """Runs a server with an empty store on its core until the block ends."""
    SCRATCH.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=SCRATCH) as directory:
        with running_on(kind, directory, *wrapper) as server:
            yield server


@contextlib.contextmanager
def running_on(kind: str, directory: str, *wrapper: str) -> Iterator[Running]:
    """Runs a server on a data directory, under `wrapper` if that is given, until the block ends."""
    port = free_port()
    command = [*wrapper, *KINDS[kind].command(port, directory)]
    process = subprocess.Popen(
        ["taskset", "-c", str(SERVER_CORE), *command], stdout=subprocess.DEVNULL
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
        process.kill()  # there are servers that wait for their readers
        process.wait()


def free_port() -> int:
    """Returns a port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def _await_answer(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server has ended with {process.returncode}")
        try:
            with socket.create_connection(("127.0.0.1", port), 1) as asking:
                asking.settimeout(_PATIENCE)  # a server may listen before it has read its data
                asking.sendall(b"HEAD /v1/stream/none HTTP/1.1\r\nHost: a\r\n\r\n")
                if asking.recv(1):
                    return
        except OSError:
            time.sleep(0.02)
    raise RuntimeError("the server does not answer")
