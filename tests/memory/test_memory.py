"""Tests of the server's memory per reader, and of JSON values that reads must return unchanged."""

import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.process import ServerProcess, memory_of, serve

MIB = 1024 * 1024
STREAM = "/v1/stream/a"
READERS = 1000


@pytest.fixture
def many_sockets() -> Iterator[None]:
    """Lets this process open 4,096 sockets for the length of a test."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def mebibytes(server: ServerProcess, field: str = "VmRSS") -> float:
    """Returns a memory figure of a server, in MiB."""
    return memory_of(server.process.pid, field) / MIB


@pytest.mark.parametrize("kept", ["memory", "files"])
def test_reading_a_long_stream_in_pages_takes_little_memory(kept: str, tmp_path: Path) -> None:
    store = ("--memory",) if kept == "memory" else ("--data-dir", str(tmp_path))
    with serve(*store) as server, httpx.Client(base_url=server.url, timeout=30) as http:
        http.put(STREAM)
        piece = bytes(range(256)) * (4 * MIB // 256)
        for _ in range(75):
            sent = http.post(
                STREAM, content=piece, headers={"content-type": "application/octet-stream"}
            )
            assert sent.status_code == 204
        before = mebibytes(server)
        Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")  # resets VmHWM, the peak
        offset, size = "-1", 0
        while True:
            page = http.get(STREAM, params={"offset": offset})
            size += len(page.content)
            assert page.content[:256] == piece[:256]
            offset = page.headers["stream-next-offset"]
            if "stream-up-to-date" in page.headers:
                break
        assert size == 300 * MIB
        assert mebibytes(server, "VmHWM") - before < 100


@pytest.mark.parametrize("media", ["application/json", "text/plain", "application/octet-stream"])
@pytest.mark.usefixtures("many_sockets")
def test_thousand_stalled_readers_take_little_memory(media: str) -> None:
    with serve("--memory", "--sse-max-age", "600") as server:
        body = b'["%s"]' % (b'x",\n"' * 200_000) if "json" in media else b"x\n" * 2 * MIB
        with httpx.Client(base_url=server.url, headers={"content-type": media}) as http:
            http.put(STREAM)
            for _ in range(4):
                assert http.post(STREAM, content=body).status_code == 204
        before = mebibytes(server)
        readers = [open_stalled_reader(server) for _ in range(READERS)]
        settle(server)
        grown = mebibytes(server) - before
        for reader in readers:
            reader.close()
    assert grown < 100


def open_stalled_reader(server: ServerProcess) -> socket.socket:
    """Opens an event stream, reads nothing of it, and returns its socket."""
    parts = urlsplit(server.url)
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reader.connect((parts.hostname, parts.port))
    reader.sendall(f"GET {STREAM}?offset=-1&live=sse HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return reader


def settle(server: ServerProcess) -> None:
    """Waits until the server's memory has not grown by 1 MiB for half a second, at most ten seconds."""
    last, calm = 0.0, 0
    for _ in range(100):
        time.sleep(0.1)  # the memory of another process can only be polled
        now = mebibytes(server)
        calm = calm + 1 if now - last < 1 else 0
        last = max(last, now)
        if calm == 5:
            return


@pytest.mark.parametrize(
    "value", [b"123456789012345678901234567890", b'{"a":1,"a":2}', b"1.10", b'{ "b":1 ,"a" :2 }']
)
def test_json_value_is_read_back_byte_for_byte(value: bytes, tmp_path: Path) -> None:
    with serve("--data-dir", str(tmp_path)) as server, httpx.Client(base_url=server.url) as http:
        http.put(STREAM, headers={"content-type": "application/json"})
        http.post(STREAM, content=value, headers={"content-type": "application/json"})
        assert http.get(STREAM).content == b"[" + value + b"]"
