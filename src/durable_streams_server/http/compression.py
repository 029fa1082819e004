"""Compresses pages with gzip on threads of its own, within bounds, and no page twice at a time.

Compression is a favour. A page that would wait too long for a thread is sent as it is, and so is one whose compression fails or is
overtaken by the server's stop. Clients that ask for the same page while it is compressed share the result. Once the last of them
has left, the work ends, within one slice if it has begun.

    compressor.compress(page_of(request, response), response)   the response, or a ticket for it
    compressor.close()                                          at the server's stop
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

#: zlib lets other threads run meanwhile. Two use two cores; with more, the threads that commit and read would find no core free.
THREADS: Final = 2
#: Bytes of the pages that wait for a thread. A thread compresses about 100 MB/s, so the last of them waits for some 0.2 s; a page
#: that would wait longer is sooner there as it is.
MAX_WAITING_BYTES: Final = 32 * MIB
#: Pages that wait. A small one takes a thread 0.1 ms, most of it for the way to the thread and back, so these wait for some 15 ms.
MAX_WAITING: Final = 256
SLICE: Final = MIB  # bytes compressed between two looks at whether anybody still waits; about 10 ms
_LEVEL: Final = 1  # most of the gain for the least time; pages are sent once and forgotten
_COMPRESSIBLE: Final = (b"text/", b"application/json", b"application/ndjson", b"application/xml")


def wants_gzip(request: Request, response: Response) -> bool:
    """Whether the response is worth compressing and the client takes it so (RFC 9110, 12.5.3)."""
    accepted = request.headers.get(ACCEPT_ENCODING)
    if accepted is None or not response.vary_encoding or response.size < GZIP_MINIMUM:
        return False
    if not prefers_gzip(accepted):
        return False
    kind = _header(response, CONTENT_TYPE)
    return kind is not None and kind.lower().startswith(_COMPRESSIBLE)


def page_of(request: Request, response: Response) -> Hashable:
    """Returns what names a response's body: equal for two requests only if their bodies are.

    The entity tag names the stream's incarnation and the bytes of the page.
    """
    tag = _header(response, b"etag")
    return object() if tag is None else (request.root_path, request.raw_path, tag)


class Compressor:
    """Compresses pages. Every method is called on the loop's thread.

    Args:
        turns: the line in which many clients of one page are answered.
        sending: counts the compressed pages until their clients have taken them.

    Attributes:
        waiting_bytes: bytes of the pages that wait for a thread.
        passed: how many pages were sent as they are because too many waited.
    """

    def __init__(self, turns: Turns, sending: SendBudget) -> None:
        self._turns = turns
        self._sending = sending
        self._pool: ThreadPoolExecutor | None = None  # made with the first page
        self._closed = False
        self._jobs: dict[Hashable, _Job] = {}  # that a client may still join
        self._waiting: dict[_Job, None] = {}  # in order
        self._running: set[_Job] = set()
        self.waiting_bytes = 0
        self.passed = 0

    def compress(self, page: Hashable, response: Response) -> Response | Ticket[Response]:
        """Returns the response as it is, or a ticket for it, compressed and with the tag of that representation.

        The ticket does not fail. The client that leaves cancels it. Until the ticket is done the response has no body.

        Args:
            page: what names the response's body, from `page_of`.
            response: a response that `wants_gzip`.
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
        response.body, response.holder = b"", None  # the job has them, once for all
        job.clients[ticket] = response
        self._begin()
        return ticket

    def close(self) -> None:
        """Ends all work, and answers the clients that wait with their pages as they are. Closing twice is no error."""
        self._closed = True
        waiting, self._waiting, self.waiting_bytes = self._waiting, {}, 0
        for job in waiting:
            self._finish(job, None)
        for job in self._running:
            job.is_left = True  # its thread stops, and it is answered then
        if self._pool is not None:
            self._pool.shutdown(wait=False)

    def _has_room(self, size: int) -> bool:
        if self._closed:
            return False
        if len(self._running) < THREADS:
            return True
        return len(self._waiting) < MAX_WAITING and self.waiting_bytes + size <= MAX_WAITING_BYTES

    def _begin(self) -> None:
        """Hands the pages that wait longest to the threads that are free."""
        while self._waiting and len(self._running) < THREADS:
            job = next(iter(self._waiting))
            del self._waiting[job]
            self.waiting_bytes -= job.size
            self._run(job)

    def _run(self, job: _Job) -> None:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(THREADS, "durable-streams-gzip")
        loop = asyncio.get_running_loop()
        try:
            future = loop.run_in_executor(self._pool, gzip, job.parts, lambda: job.is_left)
        except Exception as error:  # the system has no thread
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
        """One client has left; with the last one the job ends."""
        job.clients.pop(ticket, None)
        if job.clients:
            return
        self._forget(job)
        job.is_left = True
        if job in self._waiting:
            del self._waiting[job]
            self.waiting_bytes -= job.size

    def _finish(self, job: _Job, packed: bytes | None) -> None:
        """Answers the clients of a page: the only one at once, many in turn."""
        self._forget(job)
        holder, job.holder = job.holder, None  # the thread may be the last to let go of the job
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
        if self._jobs.get(job.page) is job:
            del self._jobs[job.page]


class _Job:
    """One page that is compressed for all the clients that wait for it.

    Attributes:
        page: what names its body.
        body: the response's body, as in `Response`.
        parts: the bytes to compress.
        size: how many they are.
        clients: the responses that wait, by their tickets.
        holder: what counts the body, until the job ends.
        is_left: whether nobody waits any more. The thread looks at it.
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
    """Returns the parts compressed, in one piece; None if `is_left` has become true meanwhile. Runs on any thread."""
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    packed = []
    for part in parts:
        view = memoryview(part)
        for start in range(0, len(view), SLICE):
            if is_left():
                return None
            packed.append(packer.compress(view[start : start + SLICE]))
    packed.append(packer.flush())
    return b"".join(packed)  # lets other threads run meanwhile if it is large


def _pack(response: Response, packed: bytes) -> None:
    """Gives a response its compressed body, and the tag of that representation."""
    response.body, response.array = packed, False
    response.headers = [
        (name, compressed_etag(value) if name == b"etag" else value)
        for name, value in response.headers
    ]
    response.headers.append((b"content-encoding", b"gzip"))


def _header(response: Response, name: bytes) -> bytes | None:
    return next((value for each, value in response.headers if each == name), None)
