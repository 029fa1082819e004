"""The ASGI application: mountable under any prefix, runnable by any ASGI server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Final

from ...errors import RequestTimeout, StoreForked
from ...protocol.hosts import check_host
from ...protocol.names import HOST
from ...protocol.render import Response
from ...storage.files.store import FileStore
from ...storage.files.workers import is_worker
from ...storage.ticket import Abandoned, Ticket
from ...streams.embedded import Streams
from ...streams.engine import Engine, stopping_error
from ...streams.turns import Line
from ...subscriptions.service import Service
from .. import guard as guards
from ..guard import Guard
from ..handler import Handler, Live
from ..limits.budget import Incoming, ReceiveBudget
from ..limits.outgoing import Outgoing
from ..options import HandlerOptions
from ..read_only import ReadOnlyHandler
from ..request import Request
from ..siblings import warn_of_siblings
from ..stopping import StopSignals
from .events import FAREWELL_GRACE, send_events
from .receiving import BodyReceiver, ClientGone, Receive, Scope, check_version, request_of
from .sending import Send, send_response
from .waiting import wait_for_reply

_NOBODY_WAITS: Final = asyncio.Event()  # for requests that no event stream answers


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
        receiver = BodyReceiver(
            options.max_body, options.body_timeout, self.budget, self.handler.check_head
        )
        self._receive_body = receiver.receive

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
        request = request_of(scope)
        client = scope.get("client")
        body = Incoming(self.budget, client[0] if client else None)
        refusal: Response | None = None
        try:
            try:
                if scope.get("http_version", "1.1") != "1.1":
                    check_version(scope["http_version"], request)
                request.check_limits(self.max_body)
                # A host that names no version, which ASGI requires, gets the benefit of the doubt.
                check_host(request.headers.get(HOST), is_needed=scope.get("http_version") == "1.1")
                if self.guard is not None:
                    await guards.check(self.guard, self.handler.acts(request), scope)
                await self._receive_body(request, body, receive)
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
                await turns.wait_turn(Line.READS if request.is_cheap else Line.URGENT)
            answer = self.handler.handle(request, ready.set)
            request.body = b""
            if isinstance(answer, Ticket) and not answer.done and request.method == "GET":
                self._watch_signals()
            reply = (
                await wait_for_reply(request, answer, receive)
                if isinstance(answer, Ticket)
                else answer
            )
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
            max_age = self.engine.options.sse_max_age
            await send_events(reply, ready, receive, send, self.outgoing, turns, max_age)
        elif reply is not None:
            await send_response(request, reply, send, self.outgoing, turns)

    def _watch_signals(self) -> None:
        """A read waits that ends only when the server stops."""
        if self.signals is not None:
            self.signals.watch()

    async def _give_up(self, request: Request, send: Send) -> bool:
        """Answers a read that the host has cancelled, as one that stops does; returns whether it could be answered."""
        refusal = self.handler.refuse(request, stopping_error())
        try:
            async with asyncio.timeout(FAREWELL_GRACE):
                await send_response(request, refusal, send, self.outgoing, self.engine.turns)
        except OSError:
            return False
        return True
