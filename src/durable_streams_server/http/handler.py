"""Turns requests into commands and outcomes into responses. This is the only file that knows the routes of streams.

`Handler.handle` is a plain function. It takes a whole request and returns the reply or a ticket for it, so both adapters can call it
and an append needs no task. The rules are not here: `protocol/` decides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar, cast

import msgspec

from ..protocol import commands, render
from ..protocol.decisions.outcomes import AppendOutcome
from ..protocol.names import (
    IF_NONE_MATCH,
    LIVE_SSE,
    OPERATIONS_PATHS,
    STREAM_FORKED_FROM,
)
from ..protocol.offsets import Offset, Sentinel
from ..protocol.page import Page
from ..protocol.preconditions import parse_conditions
from ..protocol.render import Response
from ..storage.slow_work import ACCESS
from ..storage.ticket import Abandoned, Ticket
from ..streams import bodies
from ..streams.engine import Engine
from ..subscriptions.service import Service
from .compression import Compressor, page_key, wants_gzip
from .facts import ServerFacts
from .failures import failure_response
from .gate.actions import Actions, actions_of
from .gate.clients import client_key
from .gate.gate import Gate
from .gate.permit import OPEN, Permit
from .kept import KeptAnswers
from .later import answer_later
from .limits.live_readers import LiveReaders
from .observing.metrics import Metrics
from .observing.routes import CONTROL, OPERATIONS
from .options import HandlerOptions
from .own_routes import OwnRoutes
from .private import browser_for
from .queries import parse_read
from .replies import Live, Reply, show_events, show_resumed_events, unknown_method
from .request import Request
from .targets import Targets, location_of

_BODILESS: Final = ("GET", "HEAD", "DELETE")  # methods that ignore a body
#: A placeholder for a body that has not been received. It is valid JSON, so that only the headers can be refused.
_ANY_BODY: Final = b"0"


T = TypeVar("T")


class Handler:
    """Answers requests from one engine.

    Args:
        engine: Runs the streams.
        service: Runs the subscriptions.
        options: Limits on requests, and settings of responses.
        gate: Admits or refuses requests before they reach a route. None admits every request.
        facts: What the server that runs the application tells about itself.
        metrics: Answers `/metrics`. None returns 404 there.

    Attributes:
        gate: The same gate, which may be set before the first request.
        find_target: Returns the decoded path of a request, and whether the path is a control route's.
        live_readers: Counts the live reads that run now.
    """

    def __init__(
        self,
        engine: Engine,
        service: Service,
        options: HandlerOptions,
        gate: Gate | None = None,
        facts: ServerFacts | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self.gate = gate
        self._engine = engine
        self._targets = Targets(options.stream_root)
        self.find_target = self._targets.find
        facts = facts or ServerFacts()
        self._own = OwnRoutes(engine, service, options, self._targets, facts, metrics)
        local = None if gate is None else gate.local_origins
        self._browser = browser_for(options.privacy, options.cors_origins, local)
        self._compressor = Compressor(engine.turns, engine.sending)
        self._kept = KeptAnswers()
        self._options = options
        clients = options.clients
        self.live_readers = LiveReaders(
            clients.max_live_readers,
            clients.max_live_readers_per_stream,
            clients.max_live_readers_per_client,
        )

    def handle(
        self, request: Request, on_ready: Callable[[], None], peer: str | None = None
    ) -> Reply | Ticket[Reply]:
        """Returns the reply to a request, or a ticket for the reply.

        Args:
            request: The whole request.
            on_ready: Called whenever an event stream has something to send. Its hash must be the same for all requests of one connection.
            peer: The address under which the connection is counted, or None for a Unix socket.

        Returns:
            The reply, or a ticket for it. Errors become responses, with one exception: the ticket fails with Abandoned if the
            store has stopped. Then the caller must send nothing and close the connection.
        """
        gate = self.gate
        try:
            permit = OPEN if gate is None else gate.admit(request, peer)
        except Exception as error:
            return self.refuse(request, error)
        if isinstance(permit, Ticket):
            return self._answer_later(request, on_ready, permit, peer)
        return self._answer(request, on_ready, permit, peer)

    def _answer_later(
        self,
        request: Request,
        on_ready: Callable[[], None],
        permit: Ticket[Permit],
        peer: str | None,
    ) -> Ticket[Reply]:
        """Returns a ticket for the reply to a request on which the gate has not decided yet."""
        body = request.body  # because the caller drops it when this method returns
        slow_work = self._engine.store.slow_work
        since = slow_work.clock()

        def answer(found: Permit) -> Reply | Ticket[Reply]:
            slow_work.add(ACCESS, since, slow_work.clock())
            request.body = body
            return self._answer(request, on_ready, found, peer)

        return answer_later(permit, answer, lambda error: self.refuse(request, error))

    def _answer(
        self, request: Request, on_ready: Callable[[], None], permit: Permit, peer: str | None
    ) -> Reply | Ticket[Reply]:
        """Returns the reply to an admitted request, or a ticket for the reply."""
        if permit is not OPEN and request.id:
            request.subject = permit.client
        try:
            method = request.method
            if method == "OPTIONS":
                preflight = self._browser.preflight(request, self._own.methods_of(request))
                return self._browser.finish(request, preflight)
            if method == "POST":
                known = request.known
                if known is not None and known.append is not None and not self._engine.stopping:
                    return self._append(request, commands.append_again(known.append, request.body))
            elif (kept := self._kept_answer(request)) is not None:
                return kept
            path, is_own = self._locate(request)
            if is_own:
                return self._reply(request, self._own.handle(request, path, permit), _unchanged)
            if method == "GET":
                return self._get(request, path, on_ready, permit, peer)
            return self._route(request, path)
        except Abandoned as abandoned:
            return Ticket.failed(abandoned)
        except Exception as error:
            return self.refuse(request, error)

    def _kept_answer(self, request: Request) -> Response | None:
        """Returns the kept response to the same GET or HEAD, or None if there is none or the stream has changed since.

        Raises:
            NotFound, Gone, StreamDamaged: As for a request without a kept response.
        """
        kept = self._kept.find(request)
        engine = self._engine
        if kept is None or engine.stopping:
            return None
        state = engine.find_loaded(kept.path)
        if state is None or not kept.is_current(state):
            return None
        if request.method == "GET":
            engine.touch(state)
        return kept.response

    def _reply(
        self, request: Request, ticket: Ticket[T], show: Callable[[T], Reply]
    ) -> Reply | Ticket[Reply]:
        """Returns the reply that `show` makes from the result of a ticket, or a ticket that can fail only with Abandoned.

        If the client leaves and the reply is cancelled, the ticket that it waits for is cancelled too.
        """
        if not ticket.done:
            return answer_later(
                ticket,
                lambda value: self._complete(request, show(value)),
                lambda error: self.refuse(request, error),
            )
        try:
            reply = show(ticket.result())
        except Abandoned as abandoned:
            return Ticket.failed(abandoned)
        except Exception as error:
            return self.refuse(request, error)
        return self._complete(request, reply)

    def check_head(self, request: Request, peer: str | None = None) -> None:
        """Refuses a request whose head alone is enough to refuse it. Adapters call this before they receive a large body.

        Args:
            request: The request without its body.
            peer: The address under which the connection is counted, or None for a Unix socket.

        Raises:
            StreamError: The refusal that the whole request would get.
        """
        if request.method == "OPTIONS":
            return
        if self.gate is not None:
            self.gate.check_head(request, peer)
        path, is_own = self._locate(request)
        if is_own:
            self._own.check_head(request)
        elif request.method == "POST":
            commands.parse_append(path, request.headers, _ANY_BODY)
            self._engine.check_visible(path)
        elif request.method == "PUT":
            commands.parse_create(path, request.headers, _ANY_BODY, None)
        elif request.method not in _BODILESS:
            raise unknown_method()

    def actions(self, request: Request) -> Actions:
        """Returns the actions of a request that a guard must allow, each a verb and a decoded path.

        Raises:
            BadRequest, NotFound, Unavailable: The refusal that `handle` would return.
        """
        if request.method != "OPTIONS":
            self._locate(request)
        return actions_of(request, self._targets)

    def begin_shutdown(self) -> None:
        """Stops the compression threads. Requests that wait for them get uncompressed pages."""
        self._compressor.close()

    def refuse(self, request: Request, error: Exception) -> Response:
        """Returns the response to a request that failed, with the headers that every response has. Logs an unexpected error."""
        refusal = failure_response(request, error)
        refusal.is_last = self._engine.stopping
        return self._browser.finish(request, refusal)

    def _complete(self, request: Request, reply: Reply) -> Reply | Ticket[Reply]:
        """Adds the common headers to a reply. Returns the reply, or a ticket for it while its page is compressed."""
        try:
            if isinstance(reply, Live):
                self._browser.finish(request, reply.head)
                return reply
            self._browser.finish(request, reply)
            if reply.vary_encoding and self._options.compression and wants_gzip(request, reply):
                packed = self._compressor.compress(page_key(request, reply), reply)
                return cast("Response | Ticket[Reply]", packed)
        except Exception as error:
            if isinstance(reply, Live):
                reply.events.close()  # because no caller will receive the events and close them
            return self.refuse(request, error)
        return reply

    def _parse_append(self, request: Request, path: str) -> commands.Append:
        """Returns the append that a POST asks for, and caches it, without its body, for requests with the same head.

        Raises:
            StreamError: The headers or the body are refused.
        """
        command = commands.parse_append(path, request.headers, request.body)
        if request.known is not None and command.has_body:
            request.known.append = msgspec.structs.replace(command, body=commands.NO_BODY)
        return command

    def _append(self, request: Request, command: commands.Append) -> Reply | Ticket[Reply]:
        """Executes an append and returns its reply, or a ticket for the reply."""
        if command.body.splitting is not None:
            request.body = b""  # so that the body is freed once it is split
            return self._reply(request, self._engine.append_large(command), render.appended)
        ticket = self._engine.append(command)
        if ticket.done:
            return self._browser.finish(request, render.appended(ticket.result()))
        return self._reply_to_append(request, ticket)

    def _reply_to_append(self, request: Request, ticket: Ticket[AppendOutcome]) -> Ticket[Reply]:
        """Returns a ticket for the reply to an append that is not durable yet.

        `_reply` could do the same, but takes 0.5 us longer, because it also supports cancellation and compression.
        """
        reply: Ticket[Reply] = Ticket()

        def finish(done: Ticket[AppendOutcome]) -> None:
            try:
                response = render.appended(done.result())
                reply.resolve(self._browser.finish(request, response))
            except Abandoned as abandoned:
                reply.fail(abandoned)
            except Exception as error:
                reply.resolve(self.refuse(request, error))

        ticket.add_callback(finish)
        return reply

    def _route(self, request: Request, path: str) -> Reply | Ticket[Reply]:
        """Returns the reply to any request for a stream but a GET, or a ticket for the reply."""
        method = request.method
        if method == "POST":
            return self._append(request, self._parse_append(request, path))
        if method == "HEAD":
            return self._head(request, path)
        if method == "PUT":
            return self._put(request, path)
        if method == "DELETE":
            deleted = self._engine.delete(path, parse_conditions(request.headers))
            return self._reply(request, deleted, lambda _: render.deleted())
        raise unknown_method()

    def _locate(self, request: Request) -> tuple[str, bool]:
        """Returns the decoded path of a request, and whether the path is one of the server's own routes.

        Raises:
            BadRequest, NotFound: The path is neither a stream's nor a route's.
            Unavailable: SERVER_STOPPING, unless the path is one of `OPERATIONS_PATHS`, which are also answered while the server stops.
        """
        found = self.find_target(request.raw_path, request.root_path)
        if self._engine.stopping and found[0] not in OPERATIONS_PATHS:
            self._engine.refuse_while_stopping(is_live=request.is_live)
        if found[1]:
            request.route = OPERATIONS if found[0] in OPERATIONS_PATHS else CONTROL
        return found

    def _put(self, request: Request, path: str) -> Reply | Ticket[Reply]:
        source = request.headers.get(STREAM_FORKED_FROM)
        source_path = None
        if source is not None:
            source_path = self._targets.decode_source(source, request.root_path)
        command = commands.parse_create(path, request.headers, request.body, source_path)
        if not bodies.is_ready(command):
            request.body = b""  # so that the body is freed once it is split
        created = self._engine.create(command)
        location = location_of(request, path)
        return self._reply(request, created, lambda outcome: render.created(outcome, location))

    def _head(self, request: Request, path: str) -> Reply | Ticket[Reply]:
        condition = request.headers.get(IF_NONE_MATCH)
        state = self._engine.find_loaded(path)
        if state is None:
            found = self._engine.head(path)
            return self._reply(request, found, lambda state: render.head(state, condition))
        response = self._browser.finish(request, render.head(state, condition))
        return self._kept.keep(request, state, response)

    def _get(
        self,
        request: Request,
        path: str,
        on_ready: Callable[[], None],
        permit: Permit,
        peer: str | None,
    ) -> Reply | Ticket[Reply]:
        read = parse_read(path, request)
        if read.live is None:
            return self._read_page(request, read)
        client = client_key(permit, request, peer)
        place = self.live_readers.take(path, client, permit.limits.live_readers)
        term = permit.term(request.until)
        if read.live == LIVE_SSE:
            show = show_resumed_events if read.resumes else show_events
            events = place.hold_for_events(lambda: self._engine.events(read, on_ready, term))
            return self._reply(request, events, show)
        pages = place.hold_for(
            lambda: self._engine.long_poll(read, term, connection=hash(on_ready))
        )
        return self._long_poll(request, read, pages)

    def _long_poll(
        self, request: Request, read: commands.Read, found: Ticket[Page]
    ) -> Reply | Ticket[Reply]:
        headers = request.headers

        def show(page: Page) -> Response:
            cursor = self._engine.next_cursor(read.cursor)
            if page.start == page.end:
                response = render.nothing_new(page, cursor)
            else:
                response = self._render_page(page, read.offset, headers, cursor)
            response.is_last = self._engine.is_last_poll(page)
            return response

        return self._reply(request, found, show)

    def _read_page(self, request: Request, read: commands.Read) -> Reply | Ticket[Reply]:
        """Returns the reply to a read that does not wait for new data, or a ticket for it if the page must be read from disk."""
        headers = request.headers

        def show(page: Page) -> Response:
            if read.offset is Sentinel.NOW:
                return render.tail(page)
            return self._render_page(page, read.offset, headers, None)

        found = self._engine.read(read)
        if not found.done:
            return self._reply(request, found, show)
        page = found.result()
        reply = self._complete(request, show(page))
        if page.start != page.end or not isinstance(reply, Response):
            return reply
        if page.closed or self._options.shared_cache_age:
            return reply  # its cache lifetime depends on the time and on the request's headers
        return self._kept.keep(request, page.state, reply)

    def _render_page(
        self, page: Page, offset: Offset | Sentinel, headers: commands.Headers, cursor: str | None
    ) -> Response:
        return render.page(
            page,
            self._engine.clock(),
            headers.get(IF_NONE_MATCH),
            cursor,
            offset=offset,
            headers=headers,
            shared_age=self._options.shared_cache_age,
        )


def _unchanged(reply: Reply) -> Reply:
    return reply
