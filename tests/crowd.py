"""A crowd of clients with live reads of one stream, and a client that appends to it, all in one process over plain sockets."""

import asyncio
import contextlib
import resource
import time
from typing import Final

import httptools

STREAM: Final = "/v1/stream/crowd"
_FILES: Final = 16_384  # file handles that a crowd may need


class Answer:
    """One HTTP/1.1 connection of a client, and the response that it receives.

    Attributes:
        status: the status of the response whose head was received last.
        headers: its headers.
        body: its body so far.
        is_complete: whether the body has ended as HTTP requires.
    """

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.body = bytearray()
        self.is_complete = False
        self._parser = httptools.HttpResponseParser(self)
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    # -- callbacks of the parser --------------------------------------------

    def on_message_begin(self) -> None:
        self.headers, self.body, self.is_complete = {}, bytearray(), False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.is_complete = True

    # -- for the client -----------------------------------------------------

    @property
    def closes(self) -> bool:
        """Whether the server has announced the end of the connection."""
        return self.headers.get(b"connection") == b"close"

    async def ask(self, port: int, request: bytes) -> None:
        """Sends a request, over the connection of the last one if it is still open, and receives the whole response.

        Raises:
            OSError: the connection ended before the response did.
        """
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", port)
            self._parser = httptools.HttpResponseParser(self)
        assert self._reader is not None
        self.is_complete = False
        self._writer.write(request)
        while not self.is_complete:
            data = await self._reader.read(65536)
            if not data:
                self.close()
                raise ConnectionResetError("the connection ended before the response did")
            self._parser.feed_data(data)
            self.received()
        if self.closes:
            self.close()

    def received(self) -> None:
        """Called whenever octets were received."""

    def close(self) -> None:
        """Closes the connection."""
        if self._writer is not None:
            self._writer.close()
            self._reader = self._writer = None


class Reader(Answer):
    """A client that follows the stream from its beginning, until the server ends the live read for good.

    Attributes:
        text: the bytes of the stream that the client has received.
        offset: the offset from which the client continues.
        ended_at: monotonic time at which the live read ended, or None before.
        problem: what was wrong with the end, or None.
    """

    def __init__(self, port: int, is_sse: bool) -> None:
        super().__init__()
        self.port = port
        self.is_sse = is_sse
        self.text = bytearray()
        self.offset = "-1"
        self.ended_at: float | None = None
        self.problem: str | None = None
        self.has_begun = asyncio.Event()

    async def follow(self) -> None:
        """Follows the stream to the end of its live read."""
        try:
            await (self._follow_events() if self.is_sse else self._poll())
        except OSError as error:
            self.problem = str(error)
        finally:
            self.ended_at = time.monotonic()
            self.has_begun.set()  # so that nobody waits for a client that has failed
            self.close()

    async def catch_up(self, port: int) -> None:
        """Reads the rest of the stream from a server that has been started again."""
        answer = Answer()
        await answer.ask(port, _get(self.offset, b""))
        assert answer.status == 200
        self.text += answer.body
        answer.close()

    def received(self) -> None:
        """Takes the complete events out of the body."""
        self.has_begun.set()
        if not self.is_sse:
            return
        whole, _, rest = bytes(self.body).rpartition(b"\n\n")
        self.body = bytearray(rest)
        for event in filter(None, whole.split(b"\n\n")):
            is_control = b"event: control" in event
            for line in event.split(b"\n"):
                if line.startswith(b"id:"):
                    self.offset = line[3:].decode()
                elif line.startswith(b"data:") and not is_control:
                    self.text += line[5:]
            self._ends_with_control = is_control

    async def _follow_events(self) -> None:
        self._ends_with_control = False
        await self.ask(self.port, _get(self.offset, b"sse"))
        if self.status != 200 or not self._ends_with_control:
            self.problem = f"status {self.status}, last event is no control event"

    async def _poll(self) -> None:
        while True:
            await self.ask(self.port, _get(self.offset, b"long-poll"))
            self.has_begun.set()
            if self.status not in (200, 204):
                self.problem = f"status {self.status}"
                return
            self.text += self.body
            self.offset = self.headers[b"stream-next-offset"].decode()
            if self.closes:
                return


class Writer(Answer):
    """A client that appends numbers, one after the other and each exactly once, even across a restart of the server.

    Attributes:
        acknowledged: the number of appends that the server has acknowledged.
    """

    def __init__(self) -> None:
        super().__init__()
        self.acknowledged = 0
        self.is_in_doubt = False  # whether the last append has got no response
        self._progress = asyncio.Condition()

    async def create(self, port: int) -> None:
        """Creates the stream with the first number."""
        head = f"PUT {STREAM} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n\r\n"
        await self.ask(port, head.encode())
        assert self.status == 201
        assert await self.append(port)

    async def append(self, port: int) -> bool:
        """Appends the next number. Returns False if the server refuses it because it stops, or ends the connection."""
        number = self.acknowledged
        body = b"%d," % number
        head = (
            b"POST %b HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/plain\r\nProducer-Id: w\r\nProducer-Epoch: 0\r\n"
            b"Producer-Seq: %d\r\nContent-Length: %d\r\n\r\n"
        )
        try:
            await self.ask(port, head % (STREAM.encode(), number, len(body)) + body)
        except OSError:
            self.is_in_doubt = True
            return False
        if self.status == 503:
            return False
        assert self.status in (200, 204), self.status
        self.is_in_doubt = False
        self.acknowledged += 1
        async with self._progress:
            self._progress.notify_all()
        return True

    async def until(self, count: int) -> None:
        """Waits until the server has acknowledged `count` appends."""
        async with asyncio.timeout(10), self._progress:
            await self._progress.wait_for(lambda: self.acknowledged >= count)

    async def append_steadily(self, port: int, interval: float) -> None:
        """Appends until the server stops."""
        while True:
            if not await self.append(port):
                try:  # the connection may have been idle when the server closed it
                    if not await self.append(port):
                        return
                finally:
                    self.close()
            await asyncio.sleep(interval)

    @property
    def text(self) -> bytes:
        """What the stream must contain, if no append is in doubt."""
        return b"".join(b"%d," % number for number in range(self.acknowledged))


async def begin_crowd(port: int, count: int) -> tuple[list[Reader], list[asyncio.Task[None]]]:
    """Starts live reads, half of them event streams and half long-polls. Returns once each has received its first bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < _FILES:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(_FILES, hard), hard))
    readers = [Reader(port, number % 2 == 0) for number in range(count)]
    tasks = []
    for begin in range(0, count, 100):  # fewer than the sockets that wait to be accepted
        some = readers[begin : begin + 100]
        tasks += [asyncio.create_task(reader.follow()) for reader in some]
        await asyncio.gather(*(reader.has_begun.wait() for reader in some))
    return readers, tasks


async def stop_crowd(tasks: list[asyncio.Task[None]]) -> None:
    """Cancels the live reads that have not ended."""
    for task in tasks:
        task.cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError):
            await task


def _get(offset: str, live: bytes) -> bytes:
    query = b"offset=" + offset.encode() + (b"&live=" + live if live else b"")
    return b"GET %b?%b HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" % (STREAM.encode(), query)
