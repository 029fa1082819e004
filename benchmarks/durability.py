"""The figures of docs/durability.md: `python -m benchmarks.durability PART`, with PART one of append, restart, memory, disk.

Server and load are pinned to a core each. Rates come from `wrk`, as medians of three rounds, the servers taking turns in each.
"""

import contextlib
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from durable_streams_server import FileBackedStreamStore
from durable_streams_server.protocol.commands import Append, Body, Create
from durable_streams_server.protocol.lifetime import FOREVER
from durable_streams_server.protocol.media import parse_media_type

HERE = Path(__file__).parent
SCRATCH = HERE / "scratch"  # on the disk that is measured, which /tmp may not be
OCTETS = parse_media_type("application/octet-stream")
STREAMS = 64
ROUNDS = 3
SECONDS = 6
MIB = 1024 * 1024


def this_server(port: int, directory: str) -> list[str]:
    return [
        sys.executable,
        "-c",
        "from durable_streams_server.cli import main; main()",
        *("serve", "--port", str(port), "--data-dir", directory),
    ]


def node_server(port: int, directory: str) -> list[str]:
    return ["node", str(HERE / "node_server.mjs"), str(port), directory]


SERVERS = {"this": this_server, "node": node_server}


@contextlib.contextmanager
def running(kind: str, directory: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a server on the first core until the block ends."""
    process = subprocess.Popen(
        ["taskset", "-c", "0", *SERVERS[kind](port, directory)], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        while b"Listening" not in (line := process.stdout.readline()):
            assert line, "the server has ended"
        yield process
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()


def request(method: str, url: str, body: bytes | None = None) -> None:
    headers = {"Content-Type": "application/octet-stream"}
    urllib.request.urlopen(
        urllib.request.Request(url, body, headers, method=method), timeout=30
    ).close()


def load(url: str, connections: int) -> tuple[float, float, int]:
    """Returns good answers per second, median latency in milliseconds, and how many answers were not good."""
    command = ["taskset", "-c", "1", "wrk", "-t1", f"-c{connections}", f"-d{SECONDS}s", "--latency"]
    shown = subprocess.run(
        [*command, "-s", str(HERE / "append.lua"), url], capture_output=True, text=True, check=True
    ).stdout
    total = int(re.search(r"(\d+) requests in", shown)[1])  # type: ignore[index]
    seconds = float(re.search(r"requests in ([\d.]+)s", shown)[1])  # type: ignore[index]
    value, unit = re.search(r"50%\s+([\d.]+)(us|ms|s)", shown).groups()  # type: ignore[union-attr]
    bad = sum(int(count) for count in re.findall(r"Non-2xx or 3xx responses: (\d+)", shown))
    for counts in re.findall(r"Socket errors: (.*)", shown):
        bad += sum(int(count) for count in re.findall(r"\d+", counts))
    return (total - bad) / seconds, float(value) * {"us": 0.001, "ms": 1, "s": 1000}[unit], bad


def append() -> None:
    """Durable appends of 100 octets to 64 streams, beside the Node server's files."""
    for connections in (1, 32, 256):
        rates: dict[str, list[tuple[float, float, int]]] = {kind: [] for kind in SERVERS}
        for turn in range(ROUNDS):
            for kind in SERVERS:
                with tempfile.TemporaryDirectory(dir=SCRATCH) as directory:
                    with running(kind, directory, 4700 + turn):
                        url = f"http://127.0.0.1:{4700 + turn}"
                        for number in range(STREAMS):
                            request("PUT", f"{url}/v1/stream/bench-{number}")
                        rates[kind].append(load(url, connections))
        medians = {
            kind: [statistics.median(column) for column in zip(*found, strict=True)]
            for kind, found in rates.items()
        }
        ours, theirs = medians["this"], medians["node"]
        print(
            f"{connections} connections: this {ours[0]:.0f}/s, {ours[1]:.2f} ms, {ours[2]:.0f} bad; "
            f"node {theirs[0]:.0f}/s, {theirs[1]:.2f} ms, {theirs[2]:.0f} bad; ratio {ours[0] / theirs[0]:.1f}",
            flush=True,
        )


def fill(directory: str, streams: int, size: int = 100) -> FileBackedStreamStore:
    """Makes streams with one append each, of `size` bytes, all of them in logs and catalog."""
    store = FileBackedStreamStore(directory)
    body = Body(b"x" * size)
    for number in range(streams):
        now = time.time_ns() // 1000
        store.execute(Create(f"/v1/stream/{number}", OCTETS, FOREVER, body), now)
        if number % 1000 == 999:
            store.commit_once()
            if store.checkpoint_is_due:
                store.run_checkpoint()
    store.commit_once()
    store.run_checkpoint()
    return store


def fill_log(store: FileBackedStreamStore, streams: int) -> int:
    """Appends until the write-ahead log holds as many bytes as make a checkpoint due, and returns how often."""
    body, count, size = Body(b"x" * 100), 0, 0
    while size < 64 * MIB:
        path = f"/v1/stream/{count % streams}"
        store.execute(Append(path, OCTETS, body, True), time.time_ns() // 1000)
        size += len(store.newest_pending.payload)
        count += 1
        if count % 1000 == 0:
            store.commit_once()
    store.commit_once()
    return count


def restart() -> None:
    """Restart after a kill with 100,000 streams and a full write-ahead log."""
    with tempfile.TemporaryDirectory(dir=SCRATCH) as directory:
        child = os.fork()
        if child == 0:
            store = fill(directory, 100_000)
            count = fill_log(store, 100_000)
            print(f"100000 streams; {count} appends since the last checkpoint", flush=True)
            os._exit(0)
        os.waitpid(child, 0)
        for _ in range(ROUNDS):
            began = time.monotonic()
            with running("this", directory, 4710) as process:
                request("GET", "http://127.0.0.1:4710/v1/stream/99999")
                print(
                    f"first answer after {time.monotonic() - began:.2f} s, {resident(process):.0f} MB",
                    flush=True,
                )
                process.kill()


def memory() -> None:
    """Resident memory with idle streams: 100,000 with an append each, and 1,000,000 that are empty."""
    for streams in (100_000, 1_000_000):
        with tempfile.TemporaryDirectory(dir=SCRATCH) as directory:
            fill(directory, streams, 100 if streams == 100_000 else 0).close()
            with running("this", directory, 4720) as process:
                request("GET", "http://127.0.0.1:4720/v1/stream/7")
                idle = resident(process)
                for number in range(0, streams, streams // 100_000):
                    request("HEAD", f"http://127.0.0.1:4720/v1/stream/{number}")
                print(
                    f"{streams} streams: {idle:.0f} MB idle, {resident(process):.0f} MB after 100000 were asked for",
                    flush=True,
                )


def disk() -> None:
    """Bytes on disk for each byte stored, besides the write-ahead log, whose size is fixed."""
    for size, count in ((100, 200_000), (4096, 20_000)):
        with tempfile.TemporaryDirectory(dir=SCRATCH) as directory:
            with FileBackedStreamStore(directory) as store:
                body = Body(b"x" * size)
                for number in range(STREAMS):
                    store.create(f"/{number}")
                for number in range(count):
                    store.execute(Append(f"/{number % STREAMS}", OCTETS, body, True), 0)
                    if number % 1000 == 999:
                        store.commit_once()
                        if store.checkpoint_is_due:
                            store.run_checkpoint()
            shutil.rmtree(Path(directory) / "wal")
            used = sum(file.stat().st_blocks * 512 for file in Path(directory).rglob("*"))
            print(
                f"appends of {size}: {used / (size * count):.3f} bytes on disk per byte", flush=True
            )


def resident(process: subprocess.Popen[bytes]) -> float:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]


if __name__ == "__main__":
    SCRATCH.mkdir(exist_ok=True)
    {"append": append, "restart": restart, "memory": memory, "disk": disk}[sys.argv[1]]()
