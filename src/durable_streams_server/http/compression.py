"""Compresses pages with gzip on two threads, within bounds.

Compression is optional. A page is sent uncompressed if it would wait too long for a thread, if its compression fails, or if the server
stops first. Clients that ask for the same page while it is compressed share the result. When the last of them leaves, the work
stops within one slice.

    compressor.compress(page_key(request, response), response)   the response, or a ticket for it
    compressor.close()                                          when the server stops
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from ..log import log as _log
from ..protocol.caching import compressed_etag
from ..protocol.codings import prefers_gzip
from ..protocol.limits import GZIP_MINIMUM
from ..protocol.names import ACCEPT_ENCODING, CONTENT_TYPE
from ..protocol.render import Response
from ..protocol.units import MIB
from ..storage.ticket import Ticket
from ..streams.large import Run, SendBudget
from ..streams.turns import Turns
from .request import Request

#: Threads that compress. zlib releases the interpreter lock, so two threads use two cores. More threads would leave no core to the
#: threads that commit and read.
THREADS: Final = 2
#: Maximum bytes of the pages that wait for a thread. A thread compresses about 100 MB/s, so the last page waits for about 0.2 s; a page
#: that would wait longer arrives sooner uncompressed.
MAX_WAITING_BYTES: Final = 32 * MIB
#: Maximum pages that wait for a thread. A small page takes 0.1 ms, mostly for switching to the thread and back, so the last one waits for
#: about 15 ms.
MAX_WAITING: Final = 256
#: Bytes that are compressed between two checks of whether a client still waits. Compressing them takes about 10 ms.
SLICE: Final = MIB
#: The gzip level. Level 1 has most of the gain for the least time, and a compressed page is used only once.
_LEVEL: Final = 1
_COMPRESSIBLE: Final = (b"text/", b"application/json", b"application/ndjson", b"application/xml")


def wants_gzip(request: Request, response: Response) -> bool:
    """Returns whether a response is worth compressing and its client accepts gzip (RFC 9110, 12.5.3)."""
    accepted = request.headers.get(ACCEPT_ENCODING)
    if accepted is None or not response.vary_encoding or response.size < GZIP_MINIMUM:
        return False
    if not prefers_gzip(accepted):
        return False
    kind = _header(response, CONTENT_TYPE)
    return kind is not None and kind.lower().startswith(_COMPRESSIBLE)


def page_key(request: Request, response: Response) -> Hashable:
    """Returns a key for the body of a response. Two responses have equal keys only if their bodies are equal.

    The key contains the entity tag, which names the stream's incarnation and the bytes of the page.
    """
    tag = _header(response, b"etag")
    return object() if tag is None else (request.root_path, request.raw_path, tag)


class Compressor:
    """Compresses pages. Every method must be called on the thread of the event loop.

    Args:
        turns: Shares the event loop with other work while many clients of one page are answered.
        sending: Counts the compressed pages until their clients have received them.

    Attributes:
        waiting_bytes: Bytes of the pages that wait for a thread.
        passed: Number of pages that were sent uncompressed because too many pages waited.
    """

    def __init__(self, turns: Turns, sending: SendBudget) -> None:
        self._turns = turns
        self._sending = sending
        self._pool: ThreadPoolExecutor | None = None  # created for the first page
        self._closed = False
        self._jobs: dict[Hashable, _Job] = {}  # jobs that more clients may join
        self._waiting: dict[_Job, None] = {}  # jobs without a thread, oldest first
        self._running: set[_Job] = set()
        self.waiting_bytes = 0
        self.passed = 0

    def compress(self, page: Hashable, response: Response) -> Response | Ticket[Response]:
        """Returns the response uncompressed, or a ticket for the compressed response with the entity tag of that representation.

        The ticket never fails. If the client leaves, the caller must cancel it. Until the ticket is done, the response has no body.

        Args:
            page: The key of the body, from `page_key`.
            response: A response for which `wants_gzip` is true.
        """
        job = self._jobs.get(page)
        if job is None:
            if not self._has_room(response.size):
                self.passed += 1
                return response
            job = self._jobs[page] = _Job(page, response)
            self._waiting[job] = None
            self.waiting_bytes += job.size
        ticket: Ticket[Response] = Ticket()
        ticket.on_cancel(lambda: self._leave(job, ticket))
        response.body, response.holder = b"", None  # the job holds the body for all its clients
        job.clients[ticket] = response
        self._begin()
        return ticket

    def close(self) -> None:
        """Stops all work. Clients that wait get their pages uncompressed. May be called more than once."""
        self._closed = True
        waiting, self._waiting, self.waiting_bytes = self._waiting, {}, 0
        for job in waiting:
            self._finish(job, None)
        for job in self._running:
            job.is_left = True  # stops its thread, so that its clients get the page uncompressed
        if self._pool is not None:
            self._pool.shutdown(wait=False)

    def _has_room(self, size: int) -> bool:
        """Returns whether a page of `size` bytes can be compressed now or may wait."""
        if self._closed:
            return False
        if len(self._running) < THREADS:
            return True
        return len(self._waiting) < MAX_WAITING and self.waiting_bytes + size <= MAX_WAITING_BYTES

    def _begin(self) -> None:
        """Gives the oldest waiting pages to the free threads."""
        while self._waiting and len(self._running) < THREADS:
            job = next(iter(self._waiting))
            del self._waiting[job]
            self.waiting_bytes -= job.size
            self._run(job)

    def _run(self, job: _Job) -> None:
        """Compresses a page on a thread, and then answers its clients."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(THREADS, "durable-streams-gzip")
        loop = asyncio.get_running_loop()
        try:
            future = loop.run_in_executor(self._pool, gzip, job.parts, lambda: job.is_left)
        except Exception as error:  # the system cannot start a thread
            _log.error("a page is sent uncompressed", exc_info=error)
            self._finish(job, None)
            return
        self._running.add(job)

        def done(result: asyncio.Future[bytes | None]) -> None:
            self._running.discard(job)
            packed = None
            if not result.cancelled():
                error = result.exception()
                if error is not None:
                    _log.error("a page is sent uncompressed", exc_info=error)
                else:
                    packed = result.result()
            self._finish(job, packed)
            self._begin()

        future.add_done_callback(done)

    def _leave(self, job: _Job, ticket: Ticket[Response]) -> None:
        """Removes a client from a job, because the client has left. A job without clients stops."""
        job.clients.pop(ticket, None)
        if job.clients:
            return
        self._forget(job)
        job.is_left = True
        if job in self._waiting:
            del self._waiting[job]
            self.waiting_bytes -= job.size

    def _finish(self, job: _Job, packed: bytes | None) -> None:
        """Answers the clients of a page: a single one immediately, several one by one in turns of the event loop.

        Args:
            job: The page.
            packed: The compressed page, or None to send the page uncompressed.
        """
        self._forget(job)
        holder, job.holder = job.holder, None  # because the thread may still refer to the job
        run = None
        if packed is not None:
            self._sending.add(len(packed))
            holder = run = Run(self._sending, packed)

        def answer() -> bool:
            if not job.clients:
                return False
            ticket = next(iter(job.clients))
            response = job.clients.pop(ticket)
            response.holder = holder
            if run is None:
                response.body = job.body
            else:
                _pack(response, run.data)
            ticket.resolve(response)
            return True

        if len(job.clients) <= 1:
            answer()
        else:
            self._turns.add(answer)

    def _forget(self, job: _Job) -> None:
        """Prevents further clients from joining a job."""
        if self._jobs.get(job.page) is job:
            del self._jobs[job.page]


class _Job:
    """One page that is compressed for all clients that wait for it.

    Attributes:
        page: The key of the body.
        body: The body of the response, as in `Response`.
        parts: The bytes to compress.
        size: The number of these bytes.
        clients: The responses that wait, by their tickets.
        holder: The object that counts the body against the send budget. The job holds it until it ends.
        is_left: Whether no client waits any more. The thread checks this after each slice.
    """

    __slots__ = ("body", "clients", "holder", "is_left", "page", "parts", "size")

    def __init__(self, page: Hashable, response: Response) -> None:
        self.page = page
        self.body = response.body
        self.holder = response.holder
        self.parts = response.parts
        self.size = response.size
        self.clients: dict[Ticket[Response], Response] = {}
        self.is_left = False


def gzip(parts: Sequence[bytes | memoryview], is_left: Callable[[], bool]) -> bytes | None:
    """Returns the parts compressed into one bytes object, or None once `is_left` returns True. May run on any thread."""
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    packed = []
    for part in parts:
        view = memoryview(part)
        for start in range(0, len(view), SLICE):
            if is_left():
                return None
            packed.append(packer.compress(view[start : start + SLICE]))
    packed.append(packer.flush())
    return b"".join(packed)  # releases the interpreter lock if the result is large


def _pack(response: Response, packed: bytes) -> None:
    """Gives a response its compressed body and the entity tag of that representation."""
    response.body, response.array = packed, False
    response.headers = [
        (name, compressed_etag(value) if name == b"etag" else value)
        for name, value in response.headers
    ]
    response.headers.append((b"content-encoding", b"gzip"))


def _header(response: Response, name: bytes) -> bytes | None:
    """Returns the value of a response header, or None if the response does not have it."""
    return next((value for each, value in response.headers if each == name), None)
