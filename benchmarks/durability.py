"""`python -m benchmarks.durability PART`: measures the figures of docs/durability.md. PART is restart, memory or disk.

The rates of durable appends are in docs/performance.md.
"""

import os
import shutil
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from durable_streams_server import FileBackedStreamStore
from durable_streams_server.protocol.commands import Append, Body, Create
from durable_streams_server.protocol.lifetime import FOREVER
from durable_streams_server.protocol.media import parse_media_type
from durable_streams_server.storage.files.catalog import LmdbCatalog
from durable_streams_server.storage.files.directory import CATALOG, prepare
from durable_streams_server.storage.files.limits import CHECKPOINT_BYTES, Limits
from durable_streams_server.storage.files.store import FileStore
from durable_streams_server.storage.files.system_disk import SystemDisk

from .servers import SCRATCH, running_on

OCTETS = parse_media_type("application/octet-stream")
STREAMS = 64
ROUNDS = 3
MIB = 1024 * 1024


def request(method: str, url: str) -> None:
    """Sends a request and waits for its response."""
    urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=30).close()


def fill(directory: str, streams: int, size: int = 100) -> FileBackedStreamStore:
    """Creates streams with one append of `size` bytes each, and writes all of them to logs and catalog with checkpoints."""
    store = FileBackedStreamStore(directory)
    body = Body(b"x" * size)
    for number in range(streams):
        now = time.time_ns() // 1000
        store.execute(Create(f"/v1/stream/{number}", OCTETS, FOREVER, body), now)
        if number % 1000 == 999:
            store.commit_once()
            if store.ledger.checkpoint_is_due:
                store.run_checkpoint()
    store.commit_once()
    store.run_checkpoint()
    return store


def fill_log(directory: str, streams: int) -> int:
    """Appends until the write-ahead log is large enough for a checkpoint, and returns the number of appends.

    A server would begin a checkpoint sooner, because of its limits of memory and dirty streams. So the store is opened with higher
    limits, in order to measure a start with the largest possible log.
    """
    disk = SystemDisk(directory)
    prepare(disk, directory, create=False)
    catalog = LmdbCatalog(str(disk.root / CATALOG))
    store = FileStore(disk, catalog, limits=Limits(max_unflushed=160 * MIB, max_dirty=streams + 1))
    body, count, size = Body(b"x" * 100), 0, 0
    while size < CHECKPOINT_BYTES:
        path = f"/v1/stream/{count % streams}"
        store.execute(Append(path, OCTETS, body, True), time.time_ns() // 1000)
        size += len(store.commits.newest_pending.payload)
        count += 1
        if count % 1000 == 0:
            store.commit_once()
    store.commit_once()
    return count


def fill_and_end(directory: str, streams: int) -> None:
    """Creates streams, fills the write-ahead log, prints the number of appends in the log, and ends the process without closing the store."""
    fill(directory, streams).close()
    print(fill_log(directory, streams), flush=True)
    os._exit(0)


def restart() -> None:
    """Measures a restart after a kill, with 100,000 streams and a full write-ahead log."""
    with tempfile.TemporaryDirectory(dir=SCRATCH) as directory:
        child = os.fork()
        if child == 0:
            print("100000 streams; appends since the last checkpoint:", flush=True)
            fill_and_end(directory, 100_000)
        os.waitpid(child, 0)
        for _ in range(ROUNDS):
            began = time.monotonic()
            with running_on("files", directory) as server:
                request("GET", f"{server.url}/v1/stream/99999")
                print(
                    f"first answer after {time.monotonic() - began:.2f} s, {server.resident() / 1e6:.0f} MB",
                    flush=True,
                )
                server.process.kill()


def memory() -> None:
    """Measures resident memory with 100,000 idle streams of one append each, and with 1,000,000 empty streams."""
    for streams in (100_000, 1_000_000):
        with tempfile.TemporaryDirectory(dir=SCRATCH) as directory:
            fill(directory, streams, 100 if streams == 100_000 else 0).close()
            with running_on("files", directory) as server:
                request("GET", f"{server.url}/v1/stream/7")
                idle = server.resident() / 1e6
                for number in range(0, streams, streams // 100_000):
                    request("HEAD", f"{server.url}/v1/stream/{number}")
                print(
                    f"{streams} streams: {idle:.0f} MB idle, {server.resident() / 1e6:.0f} MB after 100000 were asked for",
                    flush=True,
                )


def disk() -> None:
    """Measures the bytes on disk per stored byte, without the write-ahead log, whose size is fixed."""
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
                        if store.ledger.checkpoint_is_due:
                            store.run_checkpoint()
            shutil.rmtree(Path(directory) / "wal")
            used = sum(file.stat().st_blocks * 512 for file in Path(directory).rglob("*"))
            print(
                f"appends of {size}: {used / (size * count):.3f} bytes on disk per byte", flush=True
            )


if __name__ == "__main__":
    SCRATCH.mkdir(exist_ok=True)
    if sys.argv[1] == "fill":  # called by `durable.py`, which sets PYTHONPATH to the source to run
        fill_and_end(sys.argv[2], int(sys.argv[3]))
    {"restart": restart, "memory": memory, "disk": disk}[sys.argv[1]]()
