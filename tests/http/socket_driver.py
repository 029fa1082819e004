"""Drives a connection of the native lane octet by octet, without a socket: what a client may do, and what it then sees."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, cast

from durable_streams_server.http.native.connection import Connection, connection_factory
from durable_streams_server.http.native.lane import Lane
from durable_streams_server.protocol.commands import Append, Command
from durable_streams_server.protocol.decisions.outcomes import Outcome
from durable_streams_server.storage.ticket import Ticket
from durable_streams_server.streams.stream_store import StreamStore
from tests.http.asgi_driver import Answer

KERNEL = 64 * 1024  # octets that a socket takes although nobody reads them


class Wire(asyncio.Transport):
    """A transport whose other end is a test."""

    def __init__(self, peer: Any, tls: bool) -> None:
        super().__init__({"peername": peer, "sslcontext": object() if tls else None})
        self.connection: Connection | None = None
        self.received = bytearray()  # by the client
        self.ended = self.lost = self.aborted = False
        self.reads = True  # whether the client takes what it is sent
        self.paused = False
        self._waiting: list[bytes] = []  # sent by the client, not yet read by the server
        self._unsent = bytearray()
        self._high = KERNEL
        self._full = self._closing = self._shut = False

    # -- the server's end ---------------------------------------------------

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = high or 0

    def get_write_buffer_size(self) -> int:
        return len(self._unsent)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.ended or self.aborted, "written after its own end"
        self._unsent += data
        self.flush()
        if len(self._unsent) > self._high and not self._full:
            self._full = True
            self._server.pause_writing()

    def writelines(self, parts: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(parts))

    def write_eof(self) -> None:
        self._shut = True
        self.flush()

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self.flush()

    def abort(self) -> None:
        self.aborted = True
        self._unsent.clear()
        self.close()
        self.flush()

    def pause_reading(self) -> None:
        assert not self.paused
        self.paused = True

    def resume_reading(self) -> None:
        assert self.paused
        self.paused = False
        asyncio.get_running_loop().call_soon(self._deliver)

    # -- the client's end ---------------------------------------------------

    @property
    def unread(self) -> int:
        """Octets that the client has sent and the server has not received."""
        return sum(map(len, self._waiting))

    @property
    def _server(self) -> Connection:
        assert self.connection is not None
        return self.connection

    def flush(self) -> None:
        """Takes what has been written, as far as the client reads."""
        if self.reads and self._unsent:
            self.received += self._unsent
            self._unsent.clear()
        if not self._unsent:
            if self._full:
                self._full = False
                self._server.resume_writing()
            self.ended = self.ended or self._shut
            if self._closing and not self.lost:
                self.lose()

    def lose(self) -> None:
        """The connection is gone, on whichever side it was ended."""
        self.lost = self.ended = self._closing = True
        self._waiting.clear()
        asyncio.get_running_loop().call_soon(self._server.connection_lost, None)

    def give(self, data: bytes) -> None:
        """Hands octets to the server; none at all is the client's end."""
        self._waiting.append(data)
        self._deliver()

    def _deliver(self) -> None:
        while self._waiting and not self.paused and not self._closing:
            data = self._waiting.pop(0)
            if data:
                self._hand_over(data)
            elif not self._server.eof_received():
                self.close()

    def _hand_over(self, data: bytes) -> None:
        """Puts octets where the server wants them, and keeps what has no room there."""
        server: asyncio.BaseProtocol = self._server
        if isinstance(server, asyncio.Protocol):
            server.data_received(data)
            return
        room = self._server.get_buffer(-1)
        size = min(len(room), len(data))
        room[:size] = data[:size]
        if data[size:]:
            self._waiting.insert(0, data[size:])
        self._server.buffer_updated(size)


class Client:
    """One client of a lane, which must be made on the running loop."""

    def __init__(self, lane: Lane, peer: Any = ("127.0.0.1", 1), tls: bool = False) -> None:
        self.wire = Wire(peer, tls)
        connect = connection_factory(lane)
        self.connection = self.wire.connection = connect(server_state=_State())
        self.connection.connection_made(self.wire)

    def send(self, data: bytes, each: int = 0) -> "Client":
        """Sends octets, in one piece or in pieces of `each`."""
        each = each or len(data) or 1
        for start in range(0, len(data), each):
            self.wire.give(data[start : start + each])
        return self

    def finish(self) -> None:
        """Sends no more, but may still read (FIN)."""
        self.wire.give(b"")

    def reset(self) -> None:
        """Is gone at once (RST)."""
        if not self.wire.lost:
            self.wire.lose()

    def stall(self) -> None:
        """Takes nothing of what it is sent."""
        self.wire.reads = False

    def go_on(self) -> None:
        """Takes what it is sent again."""
        self.wire.reads = True
        self.wire.flush()

    def take(self) -> bytes:
        """Returns what has come since it was last asked."""
        data = bytes(self.wire.received)
        self.wire.received.clear()
        return data

    def answers(self, *methods: str) -> list[Answer]:
        """Takes all that has come, as whole answers to requests of these methods."""
        found, rest = parse(self.take(), methods)
        assert rest == b""
        return found

    @property
    def gone(self) -> bool:
        """Whether the server has ended the connection, or at least its half."""
        return self.wire.ended


class _State:
    def __init__(self) -> None:
        self.connections: set[Any] = set()


class HeldStore(StreamStore):
    """A store whose appends are decided only when they are let go."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[Callable[[], None]] = []
        self.holds = True

    def execute(self, command: Command, now: int) -> Ticket[Outcome]:
        if not self.holds or not isinstance(command, Append):
            return super().execute(command, now)
        ticket: Ticket[Outcome] = Ticket()

        def decide() -> None:
            decided = super(HeldStore, self).execute(command, now)
            decided.add_callback(lambda done: _settle(ticket, done))

        self.held.append(decide)
        return ticket

    def let_go(self) -> None:
        """Decides the oldest."""
        self.held.pop(0)()


def _settle(ticket: Ticket[Outcome], done: Ticket[Outcome]) -> None:
    try:
        ticket.resolve(done.result())
    except Exception as error:
        ticket.fail(error)


def parse(data: bytes, methods: Sequence[str]) -> tuple[list[Answer], bytes]:
    """Returns the answers to requests of these methods, read strictly, and what is left."""
    found: list[Answer] = []
    for method in methods:
        while data.startswith(b"HTTP/1.1 100 "):
            data = data.partition(b"\r\n\r\n")[2]
        if b"\r\n\r\n" not in data:
            break
        head, _, rest = data.partition(b"\r\n\r\n")
        line, *lines = head.split(b"\r\n")
        version, status, _ = line.split(b" ", 2)
        assert version == b"HTTP/1.1"
        pairs = [_header(each) for each in lines]
        body, data = _body(method, int(status), dict(pairs), rest)
        if body is None:
            break
        found.append(Answer(int(status), pairs, body))
    return found, data


def _header(line: bytes) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b": ")
    assert colon
    assert name == name.lower()
    assert not set(value) & {0, 10, 13}
    return name, value


def _body(
    method: str, status: int, headers: dict[bytes, bytes], rest: bytes
) -> tuple[bytes | None, bytes]:
    """Returns a body and what follows it; None while it is not whole."""
    if method == "HEAD" or status in (204, 304):
        return b"", rest
    if headers.get(b"transfer-encoding") == b"chunked":
        body = b""
        for size, part in chunks(rest):
            rest = rest[size:]
            if not part:
                return body, rest
            body += part
        return None, rest
    if b"content-length" not in headers:
        assert headers[b"connection"] == b"close"
        return rest, b""
    length = int(headers[b"content-length"])
    return (rest[:length], rest[length:]) if len(rest) >= length else (None, rest)


def chunks(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields each whole chunk: the octets that it takes, and what is in it; the last is empty."""
    while True:
        line, end, rest = data.partition(b"\r\n")
        if not end:
            return
        size = int(line, 16)
        if len(rest) < size + 2:
            return
        assert rest[size : size + 2] == b"\r\n"
        yield len(line) + 2 + size + 2, rest[:size]
        data = rest[size + 2 :]


def request(
    method: str, target: str = "/v1/stream/a", *headers: str, body: bytes | None = None
) -> bytes:
    """Returns a request's octets; a body is given its length."""
    lines = [f"{method} {target} HTTP/1.1", "Host: h", *headers]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


def post(body: bytes = b"x", *headers: str, target: str = "/v1/stream/a") -> bytes:
    """Returns an append of text."""
    return request("POST", target, "Content-Type: text/plain", *headers, body=body)


async def turn(times: int = 3) -> None:
    """Lets the loop do what is due."""
    for _ in range(times):
        await asyncio.sleep(0)


async def quiet(lane: Lane) -> None:
    """Waits until nothing stands in any line."""
    await turn(1)
    await until(lambda: lane.turns.is_idle)


async def until(condition: Callable[[], bool]) -> None:
    """Runs turns of the event loop until `condition` returns True. Fails after ten seconds."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + 10
    while not condition():
        assert loop.time() < deadline, "the condition did not come true"
        await asyncio.sleep(0)


def complaints(caplog: Any) -> list[str]:
    """Returns what was logged as wrong."""
    records = cast("list[logging.LogRecord]", caplog.records)
    return [record.getMessage() for record in records if record.levelno >= logging.WARNING]
