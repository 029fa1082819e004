"""The only place that knows routes: a request becomes a command, an outcome becomes a response. It decides nothing.

A plain function: the whole request goes in, a ticket for the response comes out, and no coroutine exists below this point.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar, cast

import msgspec

from ..errors import MethodNotAllowed, StreamError, Unavailable
from ..log import log as _log
from ..protocol import commands, render
from ..protocol.decisions.outcomes import AppendOutcome
from ..protocol.limits import RETRY_SOON
from ..protocol.names import IF_NONE_MATCH, LIVE_SSE, STREAM_FORKED_FROM
from ..protocol.offsets import Offset, Sentinel
from ..protocol.page import Page
from ..protocol.preconditions import parse_conditions
from ..protocol.render import Response
from ..storage.ticket import Abandoned, Ticket
from ..streams import bodies
from ..streams.engine import Engine
from ..streams.event_stream import EventStream
from ..subscriptions.service import Service
from .browser import METHODS, Browser
from .compression import Compressor, page_of, wants_gzip
from .control import Control
from .guard import VERBS, Verb
from .kept import KeptAnswers
from .options import HandlerOptions
from .private import PrivateBrowser
from .queries import parse_read
from .request import Request
from .targets import Targets, location_of

_BODILESS: Final = ("GET", "HEAD", "DELETE")  # methods that make nothing of a body
_ANY_BODY: Final = b"0"  # stands for a body that has not been read


class Live(msgspec.Struct):
    """A response whose body is an event stream. Its owner must close `events`."""

    head: Response
    events: EventStream


Reply = Response | Live
T = TypeVar("T")


class Handler:
    """Answers requests from one engine."""

    def __init__(self, engine: Engine, service: Service, options: HandlerOptions) -> None:
        self._engine = engine
        self._targets = Targets(options.stream_root)
        self._find_target = self._targets.find
        self._control = Control(service, self._targets.root, self._targets.reserved)
        self._browser = (PrivateBrowser if options.private else Browser)(options.cors_origins)
        self._compressor = Compressor(engine.turns, engine.sending)
        self._kept = KeptAnswers()
        self._options = options

    def handle(self, request: Request, on_ready: Callable[[], None]) -> Reply | Ticket[Reply]:
        """Answers a request: at once, or with a ticket.

        Args:
            request: the whole request.
            on_ready: for an event stream, called when it has something to send.

        Returns:
            The reply, or a ticket for it. That fails in one way only, with Abandoned: then nothing may be answered. Any
            other error has become its response.
        """
        try:
            method = request.method
            if method == "OPTIONS":
                return self._browser.finish(request, self._browser.preflight(request))
            if method == "POST":
                known = request.known
                if known is not None and known.append is not None and not self._engine.stopping:
                    return self._take(request, commands.append_again(known.append, request.body))
            elif (kept := self._kept_answer(request)) is not None:
                return kept
            path, is_control = self._locate(request)
            if is_control:
                return self._finished(request, self._control.handle(request, path), _as_it_is)
            return self._route(request, path, on_ready)
        except Abandoned as abandoned:
            return Ticket.failed(abandoned)
        except Exception as error:
            return self.refuse(request, error)

    def _kept_answer(self, request: Request) -> Response | None:
        """Returns the answer that is kept of a GET or HEAD, if the stream is still as it was.

        Raises:
            NotFound, Gone, StreamDamaged: as without a kept answer.
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

    def _finished(
        self, request: Request, ticket: Ticket[T], show: Callable[[T], Reply]
    ) -> Reply | Ticket[Reply]:
        """Returns the finished reply that shows what a ticket is for, or a ticket for that reply."""
        if ticket.done:
            return self._finish(request, ticket, show)
        reply: Ticket[Reply] = Ticket()
        reply.on_cancel(ticket.cancel)

        def finish(done: Ticket[T]) -> None:
            if reply.done:
                return
            finished = self._finish(request, done, show)
            if isinstance(finished, Ticket):
                reply.on_cancel(finished.cancel)
                finished.add_callback(hand_over)
            else:
                reply.resolve(finished)

        def hand_over(finished: Ticket[Reply]) -> None:
            if reply.done:
                return
            try:
                reply.resolve(finished.result())
            except Abandoned as abandoned:
                reply.fail(abandoned)

        ticket.add_callback(finish)
        return reply

    def check_head(self, request: Request) -> None:
        """Refuses a request that its head alone decides, before any of a large body is read.

        Raises:
            StreamError: what the whole request would be refused with.
        """
        if request.method == "OPTIONS":
            return
        path, is_control = self._locate(request)
        if is_control:
            self._control.check_head(request)
        elif request.method == "POST":
            commands.parse_append(path, request.headers, _ANY_BODY)
            self._engine.check_visible(path)
        elif request.method == "PUT":
            commands.parse_create(path, request.headers, _ANY_BODY, None)
        elif request.method not in _BODILESS:
            raise _unknown_method()

    def acts(self, request: Request) -> tuple[tuple[Verb, str], ...]:
        """Returns what a request would do, each time with the decoded path, for a guard to allow. None of what is refused anyway,
        and none of a preflight, which comes before any authorisation (TRAPS 44).

        Raises:
            BadRequest, NotFound, Unavailable: as `handle` would answer.
        """
        if request.method == "OPTIONS":
            return ()
        path, is_control = self._locate(request)
        if is_control:
            return (("control", path),)
        verb = VERBS.get(request.method)
        if verb is None:
            return ()
        source = request.headers.get(STREAM_FORKED_FROM)
        if verb != "create" or source is None:
            return ((verb, path),)
        return (verb, path), ("read", self._targets.decode_source(source, request.root_path))

    def begin_shutdown(self) -> None:
        """Ends what runs beside the loop. Requests that wait for it are answered all the same."""
        self._compressor.close()

    def refuse(self, request: Request, error: Exception) -> Response:
        """Returns the response for an error, with the headers that every response has.

        Nothing that outlives the answer refers to the request's body: the error lets go of its traceback, whose frames hold what
        was being worked on.
        """
        if not isinstance(error, StreamError):
            _log.error("a request failed", exc_info=error)
            forget_frames(error)
            error = StreamError("the server failed")
        forget_frames(error)
        return self._browser.finish(request, render.error(error))

    def _finish(
        self, request: Request, ticket: Ticket[T], show: Callable[[T], Reply]
    ) -> Reply | Ticket[Reply]:
        """Returns the reply that shows what a done ticket is for, or a ticket that fails with Abandoned alone."""
        try:
            reply = show(ticket.result())
        except Abandoned as abandoned:
            return Ticket.failed(abandoned)
        except Exception as error:
            return self.refuse(request, error)
        return self._complete(request, reply)

    def _complete(self, request: Request, reply: Reply) -> Reply | Ticket[Reply]:
        """Returns a reply with all that replies have in common, or a ticket that fails with Abandoned alone."""
        try:
            if isinstance(reply, Live):
                self._browser.finish(request, reply.head)
                return reply
            self._browser.finish(request, reply)
            if reply.vary_encoding and self._options.compression and wants_gzip(request, reply):
                packed = self._compressor.compress(page_of(request, reply), reply)
                return cast("Response | Ticket[Reply]", packed)
        except Exception as error:
            if isinstance(reply, Live):
                reply.events.close()  # nobody else knows of them
            return self.refuse(request, error)
        return reply

    def _append(self, request: Request, path: str) -> Reply | Ticket[Reply]:
        """Answers a POST, the request that there is most of: with one ticket of its own, or none."""
        command = commands.parse_append(path, request.headers, request.body)
        if request.known is not None and command.has_body:
            request.known.append = msgspec.structs.replace(command, body=commands.NO_BODY)
        return self._take(request, command)

    def _take(self, request: Request, command: commands.Append) -> Reply | Ticket[Reply]:
        """Executes an append."""
        if command.body.splitting is not None:
            request.body = b""  # let go as soon as it is split
            return self._finished(request, self._engine.append_large(command), render.appended)
        ticket = self._engine.append(command)
        if ticket.done:
            return self._browser.finish(request, render.appended(ticket.result()))
        return self._appended_later(request, ticket)

    def _appended_later(self, request: Request, ticket: Ticket[AppendOutcome]) -> Ticket[Reply]:
        """Returns a ticket for the answer to an append that is not durable yet."""
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

    def _route(
        self, request: Request, path: str, on_ready: Callable[[], None]
    ) -> Reply | Ticket[Reply]:
        method = request.method
        if method == "POST":
            return self._append(request, path)
        if method == "GET":
            return self._get(request, path, on_ready)
        if method == "HEAD":
            return self._head(request, path)
        if method == "PUT":
            return self._put(request, path)
        if method == "DELETE":
            deleted = self._engine.delete(path, parse_conditions(request.headers))
            return self._finished(request, deleted, lambda _: render.deleted())
        raise _unknown_method()

    def _locate(self, request: Request) -> tuple[str, bool]:
        """Returns the decoded path that a request names, and whether that is a control route's.

        Raises:
            BadRequest, NotFound: it is neither a stream's nor a control route's.
            Unavailable: SERVER_STOPPING.
        """
        if self._engine.stopping:
            raise Unavailable("the server is stopping", "SERVER_STOPPING", retry_after=RETRY_SOON)
        return self._find_target(request.raw_path, request.root_path)

    def _put(self, request: Request, path: str) -> Reply | Ticket[Reply]:
        source = request.headers.get(STREAM_FORKED_FROM)
        source_path = None
        if source is not None:
            source_path = self._targets.decode_source(source, request.root_path)
        command = commands.parse_create(path, request.headers, request.body, source_path)
        if not bodies.is_ready(command):
            request.body = b""  # let go as soon as it is split
        created = self._engine.create(command)
        location = location_of(request, path)
        return self._finished(request, created, lambda outcome: render.created(outcome, location))

    def _head(self, request: Request, path: str) -> Reply | Ticket[Reply]:
        condition = request.headers.get(IF_NONE_MATCH)
        state = self._engine.find_loaded(path)
        if state is None:
            found = self._engine.head(path)
            return self._finished(request, found, lambda state: render.head(state, condition))
        response = self._browser.finish(request, render.head(state, condition))
        return self._kept.keep(request, state, response)

    def _get(
        self, request: Request, path: str, on_ready: Callable[[], None]
    ) -> Reply | Ticket[Reply]:
        read = parse_read(path, request)
        if read.live is None:
            return self._catch_up(request, read)
        if read.live == LIVE_SSE:
            show = _resumed if read.resumes else _live
            return self._finished(request, self._engine.events(read, on_ready), show)
        return self._long_poll(request, read)

    def _long_poll(self, request: Request, read: commands.Read) -> Reply | Ticket[Reply]:
        headers = request.headers

        def show(page: Page) -> Response:
            cursor = self._engine.next_cursor(read.cursor)
            if page.start == page.end:
                return render.nothing_new(page, cursor)
            return self._page(page, read.offset, headers, cursor)

        return self._finished(request, self._engine.long_poll(read), show)

    def _catch_up(self, request: Request, read: commands.Read) -> Reply | Ticket[Reply]:
        """Answers a read that does not wait for data, at once if its page is there."""
        headers = request.headers

        def show(page: Page) -> Response:
            if read.offset is Sentinel.NOW:
                return render.tail(page)
            return self._page(page, read.offset, headers, None)

        found = self._engine.read(read)
        if not found.done:
            return self._finished(request, found, show)
        page = found.result()
        reply = self._complete(request, show(page))
        if page.start != page.end or not isinstance(reply, Response):
            return reply
        if page.closed or self._options.shared_cache_age:
            return reply  # how long it may be cached depends on the time, and on who asks
        return self._kept.keep(request, page.state, reply)

    def _page(
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


def _as_it_is(reply: Reply) -> Reply:
    return reply


def _live(events: EventStream) -> Live:
    return Live(render.event_stream(events.state), events)


def _resumed(events: EventStream) -> Reply:
    """Returns what a browser's EventSource gets that reconnects: at the end of a closed stream 204, the one answer after which it does
    not come back."""
    end = events.end
    if end is None:
        return _live(events)
    events.close()
    return render.nothing_new(end, None)


def forget_frames(error: BaseException) -> None:
    """Lets an exception go of its traceback, and of the exceptions that it was raised from."""
    error.__traceback__ = error.__context__ = error.__cause__ = None


def _unknown_method() -> MethodNotAllowed:
    return MethodNotAllowed("the method is not known here", headers=[(b"allow", METHODS)])
