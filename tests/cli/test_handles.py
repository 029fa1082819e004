"""A server with fewer file handles than clients."""

import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from durable_streams_server.protocol.units import MIB
from tests.process import ServerProcess, serve

HANDLES = 256
CLIENTS = 400
STREAM = "/v1/stream/a"
TEXT = {"content-type": "text/plain"}
SSE = f"GET {STREAM}?offset=-1&live=sse HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


@contextmanager
def crowd(server: ServerProcess) -> Iterator[list[socket.socket]]:
    """Opens more event streams than the server has handles."""
    parts = urlsplit(server.url)
    with ExitStack() as stack:
        clients = []
        for _ in range(CLIENTS):
            client = socket.create_connection((parts.hostname or "", parts.port or 0), 10)
            clients.append(stack.enter_context(client))
            client.sendall(SSE)
        yield clients


def first_octets(client: socket.socket) -> bytes:
    """Returns the first bytes that a client receives, or none if the server reset the connection."""
    try:
        return client.recv(65536)
    except ConnectionError:
        return b""


def checkpointed(directory: Path) -> bool:
    """Returns whether a checkpoint has moved data to a log."""
    return any(log.stat().st_size for log in directory.glob("logs/*/*[0-9]"))


@pytest.mark.parametrize("lane", ["native", "asgi"])
def test_appends_succeed_while_event_streams_use_up_the_file_handles(
    lane: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with (
        serve(
            *("--data-dir", str(tmp_path), "--http", lane),
            *("--max-connections-per-address", str(HANDLES)),  # all clients share one address
            handles=HANDLES,
        ) as server,
        httpx.Client(base_url=server.url, headers=TEXT) as http,
    ):
        assert http.put(STREAM).status_code == 201
        assert http.put("/v1/stream/b").status_code == 201
        with crowd(server) as clients:
            heads = [first_octets(client) for client in clients]
            live = [client for client, head in zip(clients, heads, strict=True) if b" 200 " in head]
            refused = [head for head in heads if b" 503 " in head]
            assert len(live) == HANDLES // 2 - 1  # one connection is left for appends
            assert len(live) + len(refused) == CLIENTS
            assert all(b"TOO_MANY_CONNECTIONS" in head for head in refused)
            assert http.post(STREAM, content=b"news").status_code == 204
            for client in live:
                received = b""
                while b"data:news" not in received:
                    received += client.recv(65536)
            ends = time.monotonic() + 30
            while not checkpointed(tmp_path) and time.monotonic() < ends:
                assert http.post("/v1/stream/b", content=bytes(8 * MIB)).status_code == 204
            assert checkpointed(tmp_path)
        while http.post(STREAM, content=b"last", headers={**TEXT, "connection": "close"}).is_error:
            pass  # until the server has noticed that the crowd has left
    said = re.findall("connections are refused with 503: .*", capfd.readouterr().err)
    assert len(said) == 1
    assert f"{HANDLES // 2} at most" in said[0]
