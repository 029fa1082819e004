"""The ASGI application: mountable under any prefix, runnable by any ASGI server."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final
from urllib.parse import quote

from ...errors import BadRequest, RequestTimeout, StoreForked
from ...protocol.hosts import check_host
from ...protocol.limits import LEAST_BODY_RATE
from ...protocol.names import HOST, TRANSFER_ENCODING
from ...protocol.paths import normalize_mount
from ...protocol.render import Response
from ...storage.files.store import FileStore
from ...storage.files.workers import is_worker
from ...storage.ticket import Abandoned, Cancelled, Ticket
from ...streams.embedded import Streams
from ...streams.engine import Engine, stopping
from ...streams.event_stream import END, PULLS, WAIT
from ...streams.turns import Line
from ...subscriptions.service import Service
from .. import guard as guards
from ..guard import Guard
from ..handler import Handler, Live, Reply
from ..limits.budget import LARGE_BODY, Incoming, ReceiveBudget
from ..limits.outgoing import Outgoing
from ..limits.patience import Patience
from ..options import HandlerOptions
from ..read_only import ReadOnlyHandler
from ..request import Request, index_headers, too_large
from ..siblings import warn_of_siblings
from ..stopping import StopSignals
from .sending import Message, Send, Taker, send_response, start_message

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

_SEND_GRACE: Final = 30.0  # seconds past its age that an event stream may need for its last bytes
_FAREWELL_GRACE: Final = 0.2  # seconds that the last words of a cancelled event stream may take
_NOBODY_WAITS: Final = asyncio.Event()  # for requests that no event stream answers


class ClientGone(Exception):
    """The client went away before its request, or its answer, was complete."""


class DurableStreamsApp:
    """A Durable Streams server as an ASGI application.

    Attributes:
        engine: what runs the streams.
        service: what runs the subscriptions.
        streams: the streams, for the program that the application runs in.
        handler: what answers requests; the native lane carries it too.
        budget: how much of what clients have sent may be held at once.
        outgoing: who is being sent large pages.
        max_body: bytes of one request body.
        body_timeout: seconds that a client may pause within a body.
        guard: asked about each request, if the host has one. The native lane knows no guard.
        signals: how it hears that its host is to stop; None if the host tells it.

    A mounted application gets no lifespan events, so it starts with its first request, on the event loop of that request. Once
    that loop has ended, or the application has been stopped, the next request starts it again on its own loop, with the same streams.
    If the host handles signals in the main thread, a signal to stop ends live reads. Any other host calls `begin_shutdown`.
    """

    def __init__(
        self,
        make: Callable[[], tuple[Engine, Service]],
        options: HandlerOptions,
        guard: Guard | None = None,
    ) -> None:
        self.guard = guard
        self.streams = Streams(self._running)
        self.max_body = options.max_body
        self.body_timeout = options.body_timeout
        self.signals: StopSignals | None = StopSignals(self.begin_shutdown)
        self._make = make
        self._options = options
        self._loop: asyncio.AbstractEventLoop | None = None  # that it has started on
        self._has_stopped = False
        self._moving = threading.Lock()
        self._assemble()
        self._may_have_siblings = is_worker() and not isinstance(self.engine.store, FileStore)

    def _assemble(self) -> None:
        """Makes everything that belongs to one event loop; the store stays."""
        options = self._options
        self.engine, self.service = self._make()
        handler = ReadOnlyHandler if options.read_only else Handler
        self.handler = handler(self.engine, self.service, options)
        self.budget = ReceiveBudget(options.max_in_flight, options.max_body)
        self.outgoing = Outgoing(self.engine.sending, self.engine.turns)
        self._patience = Patience(options.body_timeout)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one ASGI connection scope."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            self._start()
            if self._may_have_siblings:
                self._may_have_siblings = False
                warn_of_siblings(scope.get("server"))
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000})
        else:
            raise ValueError(f"unknown ASGI scope {scope['type']!r}")

    def begin(self) -> None:
        """Starts on the running loop if it has not, and again if it has been stopped.

        A server calls this before it takes the engine, the handler or the budgets: they belong to one event loop, and a start on
        another one makes new ones.
        """
        if self._has_stopped:
            with self._moving:
                self._take_loop(asyncio.get_running_loop())
        else:
            self._start()

    def begin_shutdown(self) -> None:
        """Ends live reads cleanly and refuses new requests with 503. Safe to call more than once."""
        self.service.begin_shutdown()
        self.engine.begin_shutdown()
        self.handler.begin_shutdown()

    async def stop(self) -> None:
        """Ends what runs, and gives the store back. A host application awaits it when it stops."""
        self.begin_shutdown()
        if self.signals is not None:
            self.signals.forget()
        try:
            await self.service.stop()
            await self.engine.stop()
        finally:
            self._has_stopped = True  # and not sooner: until then the store belongs to this loop

    def _running(self) -> Engine:
        """Returns the engine, started if nobody has started it."""
        self._start()
        self._watch_signals()  # a stop of the server ends the loops that follow a stream
        return self.engine

    def _start(self) -> None:
        """Starts on the running loop, or moves there from one that runs no more.

        Raises:
            RuntimeError: the loop that it has started on still runs, in another thread.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            with self._moving:
                self._take_loop(loop)

    def _take_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        before = self._loop
        if before is not None:
            if before.is_running() and not self._has_stopped:
                raise RuntimeError(
                    "this application serves another event loop, which still runs in another thread: "
                    "one application serves one loop at a time"
                )
            public_url = self.service.public_url
            engine, service = self.engine, self.service
            try:
                self._assemble()
            except StoreForked:  # as everything here is answered already
                self._loop = loop
                return
            service.retire()
            engine.retire()
            self.service.public_url = public_url
        self.engine.start()
        self.service.start()
        self._loop, self._has_stopped = loop, False

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                try:
                    self.begin()
                except RuntimeError as error:
                    await send({"type": "lifespan.startup.failed", "message": str(error)})
                    raise
                await send({"type": "lifespan.startup.complete"})
            else:
                await self.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = _request(scope)
        client = scope.get("client")
        body = Incoming(self.budget, client[0] if client else None)
        refusal: Response | None = None
        try:
            try:
                if scope.get("http_version", "1.1") != "1.1":
                    _check_version(scope["http_version"], request)
                request.check_limits(self.max_body)
                # A host that names no version, which ASGI requires, gets the benefit of the doubt.
                check_host(request.headers.get(HOST), is_needed=scope.get("http_version") == "1.1")
                if self.guard is not None:
                    await guards.check(self.guard, self.handler.acts(request), scope)
                await self._read_body(request, body, receive)
            except ClientGone:
                return
            except Exception as error:
                refusal = self.handler.refuse(request, error)
                if isinstance(error, RequestTimeout) and scope.get("http_version", "1.1") < "2":
                    refusal.headers.append((b"connection", b"close"))  # RFC 9110, 15.5.9
                await send_response(request, refusal, send, self.outgoing, self.engine.turns)
                return
            # Only a GET is answered with an event stream, and an event is half a microsecond of each request.
            ready = asyncio.Event() if request.method == "GET" else _NOBODY_WAITS
            turns = self.engine.turns
            if not turns.admits(request.is_cheap):
                await turns.mine(Line.READS if request.is_cheap else Line.URGENT)
            answer = self.handler.handle(request, ready.set)
            request.body = b""
            if isinstance(answer, Ticket) and not answer.done and request.method == "GET":
                self._watch_signals()
            reply = await _wait(request, answer, receive) if isinstance(answer, Ticket) else answer
        except Abandoned:
            return  # our own server has cut the connection; a host's ends it as its own failure
        except asyncio.CancelledError:
            is_begun = refusal is not None  # and no second answer may follow
            if is_begun or request.method != "GET" or not await self._give_up(request, send):
                raise
            return
        finally:
            body.release()
        if isinstance(reply, Live):
            self._watch_signals()
            await self._stream(reply, ready, receive, send)
        elif reply is not None:
            await send_response(request, reply, send, self.outgoing, turns)

    def _watch_signals(self) -> None:
        """A read waits that ends only when the server stops."""
        if self.signals is not None:
            self.signals.watch()

    async def _give_up(self, request: Request, send: Send) -> bool:
        """Answers a read that the host has cancelled, as one that stops does; returns whether it could be answered."""
        refusal = self.handler.refuse(request, stopping())
        try:
            async with asyncio.timeout(_FAREWELL_GRACE):
                await send_response(request, refusal, send, self.outgoing, self.engine.turns)
        except OSError:
            return False
        return True

    async def _read_body(self, request: Request, body: Incoming, receive: Receive) -> None:
        """Reads the whole body within the limits.

        Raises:
            ClientGone: the client has left.
            RequestTimeout: the client paused for longer than `body_timeout`, or sends more slowly than the least rate.
            StreamError: the body is too large, or refused by its head or for want of room.
        """
        declared = request.declared
        if declared is None and TRANSFER_ENCODING not in request.headers:
            if request.method not in ("PUT", "POST"):
                return
        elif declared is not None and declared > LARGE_BODY:
            self.handler.check_head(request)
            self.budget.check(declared)
        patience = self._patience
        task: Any = asyncio.current_task()
        in_time = 0.0
        try:
            while True:
                patience.wait(task)
                message = await receive()
                if message["type"] != "http.request":
                    raise ClientGone
                body.add(message.get("body", b""))
                if body.size > self.max_body:
                    raise too_large(self.max_body)
                if not message.get("more_body", False):
                    break
                now = asyncio.get_running_loop().time()
                in_time = in_time or now + self.body_timeout
                if body.size < (now - in_time) * LEAST_BODY_RATE:
                    raise _late()
                if body.size > LARGE_BODY and declared is None:
                    self.handler.check_head(request)
                    declared = self.max_body  # or so; once is enough
            _check_is_whole(request, body.size)
        except asyncio.CancelledError:
            if patience.ran_out(task):
                raise _late() from None
            raise
        finally:
            patience.forget(task)
        request.body = body.whole()

    async def _stream(self, live: Live, ready: asyncio.Event, receive: Receive, send: Send) -> None:
        """Sends an event stream until it ends, the client leaves or takes nothing for too long, or the host cancels it."""
        events = live.events
        gone = left = False  # `left` only if the host says so

        async def watch() -> None:
            nonlocal gone, left
            try:
                while (await receive())["type"] != "http.disconnect":
                    pass
                left = True
            finally:  # also of a host that fails: nobody would see the client leave any more
                gone = True
                ready.set()

        async def give(message: Message) -> None:
            try:
                await send(message)
            except Exception as error:
                if left or isinstance(error, OSError):  # ASGI 2.4
                    raise ClientGone from None
                raise

        turns, taker, pulls = self.engine.turns, Taker(), 0
        watcher = asyncio.create_task(watch())
        late = asyncio.timeout(self.engine.options.sse_max_age + _SEND_GRACE)
        try:
            async with late:
                await give(start_message(live.head, live.head.all_headers))
                while not gone:
                    ready.clear()
                    chunk = events.pull()
                    if chunk is WAIT:
                        await ready.wait()
                        if not turns.admits(is_read=True):
                            await turns.mine(Line.URGENT)
                    elif chunk is END:
                        await give({"type": "http.response.body", "body": b""})
                        return
                    else:
                        if events.holder is not None:
                            self.outgoing.hold(taker, events.holder)
                        await give({"type": "http.response.body", "body": chunk, "more_body": True})
                        taker.taken += len(chunk)
                        pulls += 1
                        if pulls % PULLS == 0:
                            await turns.mine()
        except ClientGone:
            return  # which is no error
        except TimeoutError:
            if not late.expired():  # it is the store's
                raise
        except asyncio.CancelledError:
            if taker.was_cut():
                return
            if gone or not await _say_farewell(events.farewell(), send):
                raise
            # The response is whole, and a host would only log what else is raised, once for each reader.
        finally:
            watcher.cancel()
            self.outgoing.release(taker)
            events.close()


async def _wait(request: Request, ticket: Ticket[Reply], receive: Receive) -> Reply | None:
    """Waits for a ticket. A read whose client leaves is given up; a write is seen through.

    Raises:
        Abandoned: the store has stopped, and nobody knows what became of the request.
    """
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[None] = loop.create_future()

    def wake(_: Ticket[Reply]) -> None:
        if not answered.done():
            answered.set_result(None)

    ticket.add_callback(wake)
    if request.method != "GET":
        await answered
        return ticket.result()

    async def watch() -> None:
        try:
            while (await receive())["type"] != "http.disconnect":
                pass
        finally:  # also of a host that fails: nobody would see the client leave any more
            ticket.cancel()

    watcher = asyncio.create_task(watch())
    try:
        await answered
        return ticket.result()
    except Cancelled:
        return None
    except asyncio.CancelledError:
        ticket.add_callback(_let_go)
        raise
    finally:
        watcher.cancel()
        ticket.cancel()


def _let_go(ticket: Ticket[Reply]) -> None:
    """Closes an event stream that is there and will never be sent."""
    with contextlib.suppress(Cancelled, Abandoned):
        reply = ticket.result()
        if isinstance(reply, Live):
            reply.events.close()


async def _say_farewell(last: bytes, send: Send) -> bool:
    """Ends a cancelled event stream with a control event and a proper end of body; returns whether the client still listened."""
    try:
        async with asyncio.timeout(_FAREWELL_GRACE):
            await send({"type": "http.response.body", "body": last, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
    except OSError:
        return False  # a reader that does not read (TimeoutError), or that has left, cannot be told
    return True


def _late() -> RequestTimeout:
    return RequestTimeout("the rest of the request's body did not come")


def _check_is_whole(request: Request, size: int) -> None:
    """Refuses a body of which the host's server has dropped some, as uvicorn does of a request for an upgrade.

    Raises:
        BadRequest: INVALID_HTTP.
    """
    headers = request.headers
    short = request.declared is not None and size != request.declared
    gone = size == 0 and TRANSFER_ENCODING in headers and b"upgrade" in headers
    if short or gone:
        raise BadRequest("the body has not come as the head says", "INVALID_HTTP")


def _check_version(version: str, request: Request) -> None:
    """Refuses versions that a host lets through in a request line, and what HTTP/1.0 does not know.

    Raises:
        BadRequest: INVALID_HTTP.
    """
    if version in ("0.9", "2.0"):  # HTTP/2 itself is `2` in ASGI
        raise BadRequest("the request is not of HTTP/1.1 or 1.0", "INVALID_HTTP")
    if version == "1.0" and TRANSFER_ENCODING in request.headers:  # RFC 9112, 6.1
        raise BadRequest("HTTP/1.0 has no transfer codings", "INVALID_HTTP")


def _request(scope: Scope) -> Request:
    headers, repeated, size = index_headers(scope["headers"])
    raw_path = scope.get("raw_path")
    if raw_path is None:  # optional in ASGI; without it the decoded path is all there is
        raw_path = _requote(scope["path"])
    root_path = scope.get("root_path", "")
    if root_path:
        root_path, raw_path = normalize_mount(root_path, raw_path)
    return Request(
        scope["method"],
        raw_path,
        scope.get("query_string", b""),
        headers,
        repeated,
        size,
        scope.get("scheme", "http"),
        root_path,
    )


def _requote(path: str) -> bytes:
    return quote(path).encode("ascii")
