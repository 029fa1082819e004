"""A client for a connection of the native lane, which works without a socket and can send octet by octet."""

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

KERNEL = 64 * 1024  # default size of the write buffer, like the socket buffers of the system


class Wire(asyncio.Transport):
    """A transport whose other end is the test's client."""

    def __init__(self, peer: Any, tls: bool) -> None:
        super().__init__({"peername": peer, "sslcontext": object() if tls else None})
        self.connection: Connection | None = None
        self.received = bytearray()  # octets that the client has read
        self.ended = self.lost = self.aborted = False
        self.reads = True  # whether the client reads
        self.paused = False
        self._waiting: list[bytes] = []  # sent by the client, but not yet received by the server
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
        """Number of octets that the client has sent and the server has not received."""
        return sum(map(len, self._waiting))

    @property
    def _server(self) -> Connection:
        assert self.connection is not None
        return self.connection

    def flush(self) -> None:
        """Moves the octets in the write buffer to the client if it reads, and then calls the server's callbacks as a transport does."""
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
        """Loses the connection, and schedules `connection_lost`."""
        self.lost = self.ended = self._closing = True
        self._waiting.clear()
        asyncio.get_running_loop().call_soon(self._server.connection_lost, None)

    def give(self, data: bytes) -> None:
        """Sends octets to the server, or end-of-file if `data` is empty."""
        self._waiting.append(data)
        self._deliver()

    def _deliver(self) -> None:
        """Delivers what the client has sent, until the server pauses reading."""
        while self._waiting and not self.paused and not self._closing:
            data = self._waiting.pop(0)
            if data:
                self._hand_over(data)
            elif not self._server.eof_received():
                self.close()

    def _hand_over(self, data: bytes) -> None:
        """Copies octets into the server's buffer, and queues those that do not fit."""
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
    """One client of a native lane. It must be made on the running event loop."""

    def __init__(self, lane: Lane, peer: Any = ("127.0.0.1", 1), tls: bool = False) -> None:
        self.wire = Wire(peer, tls)
        connect = connection_factory(lane)
        self.connection = self.wire.connection = connect(server_state=_State())
        self.connection.connection_made(self.wire)

    def send(self, data: bytes, each: int = 0) -> "Client":
        """Sends octets in one piece, or in pieces of `each` octets, and returns the client."""
        each = each or len(data) or 1
        for start in range(0, len(data), each):
            self.wire.give(data[start : start + each])
        return self

    def half_close(self) -> None:
        """Half-closes the connection (FIN). The client may still read."""
        self.wire.give(b"")

    def reset(self) -> None:
        """Resets the connection (RST), if it still exists."""
        if not self.wire.lost:
            self.wire.lose()

    def stop_reading(self) -> None:
        """Stops reading."""
        self.wire.reads = False

    def resume_reading(self) -> None:
        """Reads again."""
        self.wire.reads = True
        self.wire.flush()

    def read(self) -> bytes:
        """Returns the octets that the client has read since the last call."""
        data = bytes(self.wire.received)
        self.wire.received.clear()
        return data

    def answers(self, *methods: str) -> list[Answer]:
        """Returns the whole responses to requests of these methods. Fails if the client has received anything else."""
        found, rest = parse(self.read(), methods)
        assert rest == b""
        return found

    @property
    def is_ended(self) -> bool:
        """Whether the server has closed the connection or its half of it."""
        return self.wire.ended


class _State:
    def __init__(self) -> None:
        self.connections: set[Any] = set()


class HeldStore(StreamStore):
    """A store that holds appends until the test releases them."""

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

    def release_append(self) -> None:
        """Releases the oldest append."""
        self.held.pop(0)()


def _settle(ticket: Ticket[Outcome], done: Ticket[Outcome]) -> None:
    """Gives `ticket` the same result or error as `done`."""
    try:
        ticket.resolve(done.result())
    except Exception as error:
        ticket.fail(error)


def parse(data: bytes, methods: Sequence[str]) -> tuple[list[Answer], bytes]:
    """Parses responses strictly. Returns the whole responses to requests of these methods, and the octets that are left."""
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
    """Returns the name and the value of a header line."""
    name, colon, value = line.partition(b": ")
    assert colon
    assert name == name.lower()
    assert not set(value) & {0, 10, 13}
    return name, value


def _body(
    method: str, status: int, headers: dict[bytes, bytes], rest: bytes
) -> tuple[bytes | None, bytes]:
    """Returns the body of a response, or None if it is incomplete, and the octets behind it."""
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
    """Yields the size of each whole chunk on the wire, and its data. The data of the last chunk is empty."""
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
    """Returns the octets of a request, with a Content-Length header if it has a body."""
    lines = [f"{method} {target} HTTP/1.1", "Host: h", *headers]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


def post(body: bytes = b"x", *headers: str, target: str = "/v1/stream/a") -> bytes:
    """Returns the octets of a POST request that appends text."""
    return request("POST", target, "Content-Type: text/plain", *headers, body=body)


async def run_turns(times: int = 3) -> None:
    """Runs turns of the event loop."""
    for _ in range(times):
        await asyncio.sleep(0)


async def run_until_idle(lane: Lane) -> None:
    """Runs turns of the event loop until no step of work waits in a lane's `Turns`."""
    await run_turns(1)
    await until(lambda: lane.turns.is_idle)


async def until(condition: Callable[[], bool]) -> None:
    """Runs turns of the event loop until `condition` returns True. Fails after ten seconds."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + 10
    while not condition():
        assert loop.time() < deadline, "the condition did not come true"
        await asyncio.sleep(0)


def logged_warnings(caplog: Any) -> list[str]:
    """Returns the log messages of level warning and above."""
    records = cast("list[logging.LogRecord]", caplog.records)
    return [record.getMessage() for record in records if record.levelno >= logging.WARNING]
