"""`DurableStreamsApp`: the ASGI application, which any ASGI server can run and any ASGI application can mount."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

from ...errors import RequestTimeout, StoreForked
from ...protocol.arguments import NUMBER, require
from ...protocol.hosts import check_host
from ...protocol.names import HOST
from ...storage.files.store import FileStore
from ...storage.files.workers import is_worker
from ...storage.ticket import Abandoned, Ticket
from ...streams.embedded import Streams
from ...streams.engine import Engine, stopping_error
from ...streams.turns import Line
from ...subscriptions.service import Service
from .. import guard as guards
from ..facts import ServerFacts
from ..gate.assembly import make_gate
from ..guard import Guard
from ..handler import Handler
from ..limits.budget import Incoming, ReceiveBudget
from ..limits.outgoing import Outgoing
from ..limits.rates import Rates
from ..limits.refusals import RefusalRate
from ..limits.shares import network_of
from ..observing.lag import LoopLag
from ..observing.limit_table import LimitTable
from ..observing.metrics import Metrics
from ..observing.observer import LiveRead, Observer, Waits
from ..observing.own_limits import add_client_limits, add_own_limits
from ..observing.provider import TracerProvider
from ..observing.snapshot import Snapshot, take_snapshot
from ..observing.watchers import watch
from ..options import HandlerOptions
from ..read_only import ReadOnlyHandler
from ..replies import Live
from ..request import Request
from ..request_ids import headers_to_send, named
from ..siblings import warn_of_siblings
from ..stopping import StopSignals
from .events import FAREWELL_GRACE, send_events
from .receiving import BodyReceiver, ClientGone, Receive, Scope, check_version, request_of
from .sending import Send, close_after_last, send_response
from .waiting import Wake, hold_refusal, wait_for_reply

#: Passed to the handler with all requests but GET, which are never answered with an event stream and so need no `Wake` of their own.
_UNUSED_WAKE: Final = Wake(None)


class DurableStreamsApp:
    """A Durable Streams server as an ASGI application.

    A mounted application gets no lifespan events, so the application starts with its first request, on that request's event loop. When
    that loop has ended, or the application has been stopped, the next request starts the application again on the loop of that request,
    with the same streams. If the host handles signals in the main thread, a stop signal ends live reads. Any other host must call
    `begin_shutdown`.

    Args:
        make: Returns a new engine and a new subscription service on the application's store.
        options: Limits on requests, and settings of responses.
        guard: Allows or refuses each request. None allows every request.

    Attributes:
        engine: Runs the streams.
        service: Runs the subscriptions.
        streams: The streams, for the program that the application runs in.
        handler: Answers requests, also those of the native lane.
        budget: Limits the bytes of unanswered requests in memory.
        refusals: Decides which requests are refused only after a second, if their bodies have not been received.
        outgoing: Tracks the clients that are sent large pages.
        observer: Gets a report of each response, from every lane.
        limits: The limits that `/metrics` shows. Whoever enforces a limit adds it.
        rates: Counts the appends of each client.
        max_body: Maximum bytes of one request body.
        body_timeout: Seconds that a client may pause within a body.
        authenticator: Recognises clients by their tokens, or None.
        guard: Allows or refuses each request, or None. Connections of the native lane never call it.
        facts: What the server that runs the application tells about itself.
        signals: Calls `begin_shutdown` when the host receives a stop signal. None if the host calls `begin_shutdown` itself.
    """

    def __init__(
        self,
        make: Callable[[], tuple[Engine, Service]],
        options: HandlerOptions,
        guard: Guard | None = None,
    ) -> None:
        self.guard = guard
        self.authenticator = options.access.authenticator
        self.facts = ServerFacts(
            auth=() if self.authenticator is None else self.authenticator.kinds
        )
        self.streams = Streams(self._started_engine)
        self.max_body = options.max_body
        self.body_timeout = options.body_timeout
        self.observer = Observer()
        self.limits = LimitTable()
        self._lag = LoopLag()
        self._metrics = Metrics(self._take_snapshot)
        self.signals: StopSignals | None = StopSignals(self.begin_shutdown)
        self._make = make
        self._options = options
        self._loop: asyncio.AbstractEventLoop | None = None  # the loop it was last started on
        self._has_stopped = False
        self.draining = False
        self._moving = threading.Lock()  # held while the application starts on a loop
        self._assemble()
        self._may_have_siblings = is_worker() and not isinstance(self.engine.store, FileStore)

    def _assemble(self) -> None:
        """Creates the objects that belong to one event loop, around the same store."""
        options = self._options
        self.engine, self.service = self._make()
        handler = ReadOnlyHandler if options.read_only else Handler
        clients = options.clients
        self.rates = Rates(clients.max_appends_per_second, clients.max_bytes_per_second)
        # A token may have limits of its own, also if the server has none.
        is_rated = clients.has_rates or options.access.authenticator is not None
        rates = self.rates if is_rated else None
        gate = make_gate(options, self.engine, rates)
        self.handler = handler(self.engine, self.service, options, gate, self.facts, self._metrics)
        self.budget = ReceiveBudget(options.max_in_flight, options.max_body)
        self.refusals = RefusalRate()
        self.outgoing = Outgoing(self.engine.sending, self.engine.turns)
        receiver = BodyReceiver(
            options.max_body, options.body_timeout, self.budget, self.handler.check_head
        )
        self._receive_body = receiver.receive
        add_own_limits(self.limits, self.engine, self.service, self.budget)
        owners = self.engine.store.subscriptions.owners
        add_client_limits(self.limits, self.handler.live_readers, self.rates, owners, clients)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one ASGI scope: a lifespan, an HTTP request, or a WebSocket, which is closed."""
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
        """Starts the application on the running event loop, also after a stop.

        A server must call this before it uses the engine, the handler or the budgets, because starting on another event loop replaces them.

        Raises:
            RuntimeError: The application runs on another event loop, in another thread.
        """
        if self._has_stopped:
            with self._moving:
                self._start_on(asyncio.get_running_loop())
        else:
            self._start()

    def trace(self, provider: TracerProvider) -> None:
        """Makes an OpenTelemetry span for each response from now on.

        Args:
            provider: The tracer provider of the host, for example `opentelemetry.trace.get_tracer_provider()`.

        Raises:
            TypeError: The provider has no `get_tracer`.
        """
        require(TracerProvider, provider=provider)
        from ..observing.traces import Traces  # imports OpenTelemetry, which the host has

        watch(self.observer, [Traces(provider)], names_requests=False)

    @property
    def draining(self) -> bool:
        """Whether the server is about to stop. Set it to True to make `/readyz` fail while requests are still answered."""
        return self.facts.is_draining

    @draining.setter
    def draining(self, draining: bool) -> None:
        self.facts.is_draining = draining

    def begin_drain(self, seconds: float) -> None:
        """Begins to end live reads properly, spread over some seconds, so that their clients do not all reconnect at once.

        All other requests are still answered. Must be called on the event loop, `seconds` before `begin_shutdown`.

        Args:
            seconds: How long the drain lasts, above 0.

        Raises:
            TypeError: `seconds` is not a number.
            ValueError: `seconds` is not above 0, or is not finite.
        """
        require(NUMBER, seconds=seconds)
        if not 0 < seconds < math.inf:
            raise ValueError("seconds must be above 0")
        self.draining = True
        self.engine.begin_drain(seconds)

    def begin_shutdown(self) -> None:
        """Ends live reads properly and refuses new requests with 503. May be called more than once."""
        self.draining = True
        self.service.begin_shutdown()
        self.engine.begin_shutdown()
        self.handler.begin_shutdown()

    async def stop(self) -> None:
        """Stops the engine and the subscriptions, and detaches the store. The host application awaits this when it stops."""
        self.begin_shutdown()
        self._lag.stop()
        if self.signals is not None:
            self.signals.forget()
        try:
            if self.authenticator is not None:
                await self.authenticator.aclose()
            await self.service.stop()
            await self.engine.stop()
        finally:
            self._has_stopped = True  # only now, because until now the store belongs to this loop

    def _take_snapshot(self) -> Snapshot:
        """Returns the present values of all metrics."""
        return take_snapshot(self.observer, self.engine, self.service, self.limits, self._lag)

    def _started_engine(self) -> Engine:
        """Starts the application if necessary and returns the engine, for the program's own use of the streams."""
        self._start()
        self._watch_signals()  # so that loops that follow a stream end when the server stops
        return self.engine

    def _start(self) -> None:
        """Starts the application on the running event loop unless it runs there already.

        Raises:
            RuntimeError: The application runs on another event loop, in another thread.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            with self._moving:
                self._start_on(loop)

    def _start_on(self, loop: asyncio.AbstractEventLoop) -> None:
        """Starts the application on an event loop. If it ran on another loop before, first replaces the objects that belong to that loop.

        Raises:
            RuntimeError: The earlier loop still runs, in another thread.
        """
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
            except StoreForked:  # in a forked copy, the old handler already refuses all requests
                self._loop = loop
                return
            service.retire()
            engine.retire()
            self.service.public_url = public_url
        self.engine.start()
        self.service.start()
        self._lag.start(loop)
        if self.authenticator is not None:
            self.authenticator.start()
        self._loop, self._has_stopped, self.draining = loop, False, False

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        """Starts and stops the application when the host server sends the lifespan events."""
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
        """Answers one HTTP request."""
        request = self._request_of(scope)
        client = scope.get("client")
        peer = _peer_of(client)
        body = Incoming(self.budget, peer)
        observer = self.observer
        waits = Waits()
        since = began = observer.clock()
        is_begun = False  # whether a refusal was begun, so that no second response may be sent
        try:
            try:
                self._check_head(request, scope)
                await self._receive(scope, request, body, receive, peer)
                since = observer.clock()
                waits.body_wait = since - began
            except ClientGone:
                return
            except Exception as error:
                is_begun = True
                waits.body_wait = observer.clock() - began
                await self._refuse_head(request, error, body, scope, receive, send, peer, waits)
                return
            # Only a GET can be answered with an event stream, and an event costs 0.5 us per request.
            wake = Wake(client) if request.method == "GET" else _UNUSED_WAKE
            turns = self.engine.turns
            if not turns.admits(request.is_cheap):
                await turns.wait_turn(Line.READS if request.is_cheap else Line.URGENT)
                waits.queue_wait = observer.clock() - since
            observer.received += len(request.body)
            answer = self.handler.handle(request, wake, peer)
            request.body = b""
            if isinstance(answer, Ticket) and not answer.done and request.method == "GET":
                self._watch_signals()
            reply = (
                await wait_for_reply(request, answer, receive)
                if isinstance(answer, Ticket)
                else answer
            )
        except Abandoned:
            return  # our server has cut the connection; other hosts report a failure
        except asyncio.CancelledError:
            if (
                is_begun
                or request.method != "GET"
                or not await self._refuse_cancelled(request, since, peer, send)
            ):
                raise
            return
        finally:
            body.release()
        if isinstance(reply, Live):
            self._watch_signals()
            reply.head.headers += headers_to_send(request, reply.head)
            live = observer.live_began(request, reply.head.status, since, peer)
            await self._send_events(reply, live, wake.event, receive, send)
        elif reply is not None:
            close_after_last(reply, scope)
            size = await send_response(request, reply, send, self.outgoing, turns)
            observer.finished(request, reply.status, since, size, peer, waits)

    def _request_of(self, scope: Scope) -> Request:
        """Returns the request of a scope, with an id if the observer wants every request named."""
        request = request_of(scope)
        return named(request) if self.observer.names_requests else request

    async def _refuse_head(
        self,
        request: Request,
        error: Exception,
        body: Incoming,
        scope: Scope,
        receive: Receive,
        send: Send,
        peer: str | None,
        waits: Waits,
    ) -> None:
        """Refuses a request before it is whole, and reports the response without the time for which it was held."""
        body.release()
        if self.refusals.must_hold_body(error):
            await hold_refusal(scope, receive)
        since = self.observer.clock()
        refusal = self.handler.refuse(request, error)
        refusal.is_last |= isinstance(error, RequestTimeout)  # RFC 9110, 15.5.9
        close_after_last(refusal, scope)
        size = await send_response(request, refusal, send, self.outgoing, self.engine.turns)
        self.observer.finished(request, refusal.status, since, size, peer, waits)

    async def _send_events(
        self, reply: Live, live: LiveRead, ready: asyncio.Event, receive: Receive, send: Send
    ) -> None:
        """Sends an event stream, and reports its end."""
        max_age = self.engine.options.sse_max_age
        turns = self.engine.turns
        try:
            await send_events(reply, live, ready, receive, send, self.outgoing, turns, max_age)
        finally:
            live.end()

    def _check_head(self, request: Request, scope: Scope) -> None:
        """Refuses a request whose head is invalid.

        Raises:
            StreamError: The refusal.
        """
        version = scope.get("http_version", "1.1")
        if version != "1.1":
            check_version(version, request)
        request.check_limits(self.max_body)
        # ASGI requires a version. If a host gives none, a request without a Host is accepted.
        check_host(request.headers.get(HOST), is_needed=scope.get("http_version") == "1.1")

    async def _receive(
        self, scope: Scope, request: Request, body: Incoming, receive: Receive, peer: str | None
    ) -> None:
        """Asks the guard about a request, and then receives its body.

        Raises:
            Exception: The guard refuses the request, or the errors of `BodyReceiver.receive`.
        """
        guard = self.guard
        if guard is None:
            await self._receive_body(request, body, receive, peer)
            return
        actions = self.handler.actions(request)
        request.until = await guards.check(guard, actions, scope)
        await self._receive_body(request, body, receive, peer)
        # Over HTTP/2 the head need not tell whether a body follows, and so whether a close also appends.
        more = tuple(each for each in self.handler.actions(request) if each not in actions)
        await guards.check(guard, more, scope)

    def _watch_signals(self) -> None:
        """Watches for stop signals, so that the waiting read ends when the host stops."""
        if self.signals is not None:
            self.signals.watch()

    async def _refuse_cancelled(
        self, request: Request, since: float, peer: str | None, send: Send
    ) -> bool:
        """Refuses a read that the host has cancelled, as hosts do when they stop. Returns whether the response could be sent."""
        refusal = self.handler.refuse(request, stopping_error())
        try:
            async with asyncio.timeout(FAREWELL_GRACE):
                size = await send_response(request, refusal, send, self.outgoing, self.engine.turns)
        except OSError:
            return False
        self.observer.finished(request, refusal.status, since, size, peer)
        return True


def _peer_of(client: Sequence[Any] | None) -> str | None:
    """Returns the address under which a client is counted. Some hosts give an empty address for a client on a Unix socket."""
    return network_of(client[0]) if client and client[0] else None
