"""Ten thousand clients that read a stream of 64 MiB slowly, half of them as pages and half as events."""

import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import httpx

from benchmarks.stall.crowd import connect_from

from .serving import TEXT, Server

READERS: Final = 10_000
STREAM: Final = "/v1/stream/large"
_APPEND: Final = 1024 * 1024  # bytes of one append
_APPENDS: Final = 64
#: Bytes of the receive buffer of each reader, so that the system holds few of the bytes that the server sends.
_RECEIVE_BUFFER: Final = 4096
_SIP: Final = 512  # bytes that a reader takes at once
_LEAST: Final = 2048  # bytes that each reader gets, more than a refusal has
SECONDS: Final = 20.0  # how long the readers read
_PATIENCE: Final = 30.0  # further seconds for readers that have got nothing yet
#: Bytes of memory that one reader may cost, besides the large pages that all readers share: an event of 16 KiB that the socket has not taken,
#: its encoding, and the connection.
EACH: Final = 32 * 1024
#: Bytes of large pages that the server may hold for all readers (`--max-unsent`).
PAGES: Final = 256 * 1024 * 1024


@dataclass
class Outcome:
    """The results of slow reading.

    Attributes:
        readers: clients that were connected at once.
        before: memory before the first reader, in bytes.
        peak: memory at most.
        lost: readers that the server has cut or refused.
        taken: bytes that the readers have read.
        delay: longest time of a small read by another client in seconds.
    """

    readers: int
    before: int
    peak: int
    lost: int
    taken: int
    delay: float

    def complaints(self) -> Iterator[str]:
        """Yields a sentence for each fault of the server."""
        grown = self.peak - self.before
        if grown > PAGES + self.readers * EACH:
            yield f"slow readers: memory grows by {grown >> 20} MiB"
        if self.taken < self.readers * _LEAST:
            yield f"slow readers: they have got only {self.taken} bytes"


def read_slowly(server: Server, readers: int = READERS, seconds: float = SECONDS) -> Outcome:
    """Lets clients read slowly, and returns what that costs the server."""
    offsets = _write(server)
    server.forget_peak()
    before = server.memory()
    sockets: dict[int, socket.socket] = {}
    try:
        for number in range(readers):
            opened = connect_from(server.port, number, _RECEIVE_BUFFER)
            sockets[opened.fileno()] = opened
            live = "&live=sse" if number % 2 else ""
            target = f"{STREAM}?offset={offsets[number // 2 % len(offsets)]}{live}"
            opened.sendall(f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            opened.setblocking(False)
        taken, lost, delay = _sip(server, sockets, seconds)
    finally:
        for each in sockets.values():
            each.close()
    return Outcome(readers, before, server.memory("VmHWM"), lost, taken, delay)


def _write(server: Server) -> list[str]:
    """Writes the stream, and returns the offsets at which its appends begin."""
    offsets = []
    with httpx.Client(base_url=server.url, timeout=60) as http:
        offset = http.put(STREAM, headers=TEXT).raise_for_status().headers["stream-next-offset"]
        for number in range(_APPENDS):
            offsets.append(offset)
            body = f"{number:16}".encode() * (_APPEND // 16)
            answer = http.post(STREAM, content=body, headers=TEXT).raise_for_status()
            offset = answer.headers["stream-next-offset"]
    return offsets


def _sip(
    server: Server, sockets: dict[int, socket.socket], seconds: float
) -> tuple[int, int, float]:
    """Lets each reader take a few bytes in each round. Returns the bytes taken, the readers lost, and the longest small read."""
    taken = lost = 0
    delay = 0.0
    deadline = time.monotonic() + seconds
    latest = deadline + _PATIENCE
    wanted = len(sockets) * _LEAST
    with httpx.Client(base_url=server.url, timeout=60) as http:
        while (now := time.monotonic()) < deadline or (taken < wanted and now < latest):
            for handle, reader in list(sockets.items()):
                try:
                    got = reader.recv(_SIP)
                except BlockingIOError:
                    continue
                except OSError:
                    got = b""
                taken += len(got)
                if not got:
                    lost += 1
                    sockets.pop(handle).close()
            begin = time.monotonic()
            http.head(STREAM).raise_for_status()
            delay = max(delay, time.monotonic() - begin)
    return taken, lost, delay
