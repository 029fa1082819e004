"""The handler straight on the socket: an asyncio protocol given to uvicorn as its HTTP class.

No task, future or coroutine exists here. A request is answered when its ticket resolves; an event stream is pulled when its
stream has changed or its socket can take more. Requests on one connection are answered one after the other. `parsing.py` turns
octets into requests; here are the socket, the turns, the answers, and the phase that says who is to act next, and by when.
"""

from __future__ import annotations

import asyncio
import functools
import math
from collections import deque
from collections.abc import Callable
from typing import Any, Final, TypeVar, TypeVarTuple, cast

from ...errors import RequestTimeout, StreamError
from ...log import log as _log
from ...protocol.render import Response
from ...storage.ticket import Abandoned, Cancelled, Ticket
from ...streams.event_stream import END, PULLS, WAIT, EventStream
from ...streams.turns import WRITES_AT_ONCE, Line
from .. import wire
from ..handler import Live, Reply
from ..kept import KeptResponse
from ..limits.admission import handle_of
from ..limits.shares import address_of
from ..proxies import is_trusted
from ..request import NO_REQUEST, Request
from .lane import LITTLE, Lane
from .parser import Parser, Turn
from .phase import Phase

_UNSENT: Final = 16 * 1024  # bytes that a socket has not taken, before the writer waits
#: Octets that are parsed at once: 16 KiB of the smallest chunks or of pipelined heads take about 2 ms. A part of a body of known
#: length is one call of the parser, however large.
_BITE: Final = 16 * 1024
_SMALL: Final = (
    2 * 1024
)  # octets that are parsed as a part of one request; more count as several, however many requests they hold
_REQUESTS: Final = 8  # of one connection that are begun in one step
_LARGE: Final = 64 * 1024  # bytes of a response, or of a part of a body, that is a step by itself
#: Requests begun in one turn of the loop, as `Turns` counts them, up to which the loop reads on from a lone client: about six large parts.
_AT_ONCE: Final = 192
_PART: Final = 0.0005  # seconds that the loop takes to receive the next part of a large body
_CLOSING: Final = (
    0.00002  # seconds that the loop takes to close a socket, after the step that asks for it
)
_QUEUED: Final = 1024  # bytes that a request costs while it waits, besides its body
_P: Final = 0x50  # the first octet of POST, PUT and PATCH

#: Names of their own: to look a member up in its enumeration takes longer than all else that `_settle` does.
_IDLE: Final = Phase.IDLE
_HEAD: Final = Phase.HEAD
_BODY: Final = Phase.BODY
_ANSWERING: Final = Phase.ANSWERING
_SENDING: Final = Phase.SENDING
_LINGERING: Final = Phase.LINGERING
_CLOSED: Final = Phase.CLOSED


Given = TypeVarTuple("Given")
R = TypeVar("R")


def protocol_of(lane: Lane) -> Callable[..., Connection]:
    """Returns what uvicorn calls for each connection; of what it gives, its set of connections is all that is needed."""

    def connect(**given: Any) -> Connection:
        if lane.loop is None:
            lane.begin(given["server_state"].connections)
        return Connection(lane)

    return connect


def _event(
    handle: Callable[[Connection, *Given], R],
) -> Callable[[Connection, *Given], R | None]:
    """Makes a method the whole of what one event does to a connection.

    Afterwards the connection enters the phase that follows from its state. An exception of any kind ends this connection, and
    no other: it is logged once, and the connection gives back all that it holds.
    """

    @functools.wraps(handle)
    def run(connection: Connection, *given: *Given) -> R | None:
        try:
            result = handle(connection, *given)
            connection._settle()
        except Exception as error:
            connection._fail(error)
            return None
        return result

    return run


class Connection(asyncio.BufferedProtocol):
    """One client's connection."""

    __slots__ = (
        "_address",
        "_answering",
        "_deadline",
        "_ended",
        "_events",
        "_has_room",
        "_holds",
        "_in_line",
        "_is_alone",
        "_keep_alive",
        "_lane",
        "_left",
        "_parser",
        "_pausing",
        "_phase",
        "_queue",
        "_scheme",
        "_sends_no_more",
        "_since",
        "_ticket",
        "_turns",
        "_unread",
        "_unsent",
        "_writable",
        "_written",
        "transport",
    )

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._turns = lane.turns
        self._queue: deque[Turn] = deque()
        self._answering: Turn | None = None
        self._ticket: Ticket[Reply] | None = None
        self._events: EventStream | None = None
        self._keep_alive = self._writable = True
        self._ended = self._sends_no_more = self._pausing = False
        self._in_line = False  # whether it stands in a line
        self._left = 0  # requests that may still be begun in this step
        self._is_alone = True  # whether nobody stood in line when reading was last resumed
        self._has_room = False  # whether much may be received although the loop's turn is full
        self._holds = False  # whether a large page is held for the client
        self._written = 0  # octets of large pages
        self._unread: bytes | memoryview = b""  # octets that wait to be parsed
        self._since = 0.0  # when the body that is being received began
        self._address: str | None = None  # that the connection counts under, once it is admitted
        self._scheme = "http"
        self._phase = _CLOSED
        self._deadline = 0.0  # of the phase; see `_enter`
        self._unsent = 0  # octets that the client had not taken at the last look
        self._parser: Parser = cast(Parser, None)
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)

    # -- events of the socket -----------------------------------------------

    @_event
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins."""
        self.transport = cast(asyncio.Transport, transport)
        # Writing goes on when the client has taken everything: a page is let go then, and not before its last octet.
        self.transport.set_write_buffer_limits(high=_UNSENT, low=0)
        if transport.get_extra_info("sslcontext") is not None:
            self._scheme = "https"
        trusted = is_trusted(transport)
        address = address_of(transport)
        self._parser = Parser(
            self._lane, self._scheme, trusted, self._take, self._check_head, address
        )
        lane = self._lane
        refusal = lane.admission.admit(len(lane.connections), handle_of(transport), address)
        if refusal is None:
            self._address = address  # counted, so it is given back
        lane.added(self)
        self._enter(_IDLE)
        if refusal is not None:
            self._turn_away(refusal)

    def connection_lost(self, _: Exception | None) -> None:
        """Gives everything back, at once or in line: thousands of clients may leave together."""
        self._enter(_CLOSED)
        lane = self._lane
        lane.connections.discard(self)
        if self._turns.admits(is_read=False):
            self._clean_up()
        else:
            self._turns.add(self._clean_up)

    def get_buffer(self, _: int) -> memoryview:
        """Returns the room for what the loop receives next, which is little once the loop's turn is full: the loop receives from every
        ready socket before it does anything else."""
        lane = self._lane
        is_little = self._turns.begun >= WRITES_AT_ONCE and not self._has_room
        return lane.little_room if is_little else lane.room

    def buffer_updated(self, size: int) -> None:
        """Parses what has come. This is an `_event` written out, since most appends are one call of it."""
        parser = self._parser
        data = self._lane.room[:size]
        try:
            self._left = _REQUESTS
            turns = self._turns
            if size > _BITE or self._unread or turns.begun >= WRITES_AT_ONCE:
                self._receive(data)
            elif size > _SMALL:
                turns.count(parser.feed, data)
            else:
                parser.feed(data)
            if self._phase is _BODY:
                self._enter(_BODY)  # some of it has come
            if self._queue and not self._pausing and not parser.over:
                self._pause_reading()
            if self._answering is not None or not self._writable:
                if self._writable:
                    return  # the phase is ANSWERING, and stays so
            elif parser.over:
                self._next()
            elif parser.asks:
                self._invite()
            self._settle()
        except Exception as error:
            self._fail(error)

    def eof_received(self) -> bool:
        """The client sends no more; it may still read its answers, but a live read does not wait for it.

        What follows may stand in line, because thousands of clients may leave together.
        """
        self._parser.over = self._sends_no_more = True
        if self._ended or self._scheme == "https":
            self._ended = True
            return False  # the transport closes itself; TLS cannot be half closed
        if not self._in_line and self._turns.admits(is_read=False):
            self._advance()
        else:
            self._stand_in_line()
        return True

    @_event
    def pause_writing(self) -> None:
        """The client does not take what it is sent."""
        self._writable = False

    @_event
    def resume_writing(self) -> None:
        """The client has taken it."""
        self._writable = True
        self._release_page()
        if self._events is not None or self._queue or self._unread:
            self._stand_in_line()
        else:
            self._next()

    # -- events of the server -----------------------------------------------

    @_event
    def shutdown(self) -> None:
        """The server stops: a connection without a request is closed, any other after its answer."""
        if self._answering is None and not self._queue:
            self._close()
        else:
            self._keep_alive = False

    @_event
    def check(self, now: float) -> None:
        """Ends what lasts too long: a request that is not whole is refused, anything else is cut."""
        if self._phase is _SENDING:
            self._look_at_unsent()
        if self._holds and not self.transport.get_write_buffer_size():
            self._release_page()  # so little was left that nobody told of its end
        if now < self._deadline and not (self._phase is _BODY and self._is_slow(now)):
            return
        if self._phase in (_HEAD, _BODY):
            part = "head" if self._phase is _HEAD else "body"
            self._parser.refuse(RequestTimeout(f"the rest of the request's {part} did not come"))
            self._next()
        else:
            self.transport.abort()

    def _advance(self) -> None:
        """Does a step of what this connection has to do: its turn has come."""
        self._in_line = False
        if self._phase is _CLOSED or self.transport.is_closing():
            return
        try:
            self._left = _REQUESTS
            if self._answering is None and not self._queue and self._writable:
                self._feed_unread()
            self._pump()
            self._next()
            if self._sends_no_more and self._is_polling:
                self._close()
            self._settle()
        except Exception as error:
            self._fail(error)

    def _answered(self, ticket: Ticket[Reply]) -> None:
        """The request whose turn it is has its reply. Each durable append calls this, so it does itself what `_event` would do."""
        self._ticket = None
        turn = self._answering
        assert turn is not None
        try:
            try:
                reply = ticket.result()
            except Abandoned:
                self._give_back(turn)
                self.transport.abort()  # nobody knows what became of it
            except Cancelled:
                self._give_back(turn)  # the client has left
            else:
                self._answer(turn, reply)
                self._next()
            self._settle()
        except Exception as error:
            self._fail(error)

    def _wake(self) -> None:
        """An event stream may have something to send. Most wake-ups change no phase, so this is no `_event`."""
        try:
            events = self._events
            if events is not None:
                is_free = self._writable and not self._holds and not self._sends_no_more
                if is_free and not self.transport.is_closing():
                    data = events.news()
                    if data is not None:  # as nearly always, and it leaves nothing else to do
                        turn = cast(Turn, self._answering)
                        self.transport.write(self._lane.chunk(data) if turn.chunked else data)
                        return
                if events.page is not None and len(self._turns):
                    self._stand_in_line()  # it catches up, and so may many others
                    return
            self._pump()
            if self._answering is None:
                self._next()
                self._settle()
        except Exception as error:
            self._fail(error)

    # -- phases -------------------------------------------------------------

    def _settle(self) -> None:
        """Enters the phase that the connection is in now, if it is another one."""
        parser = self._parser
        if self._phase is _CLOSED:
            return
        if self._ended:
            phase = _SENDING if self.transport.get_write_buffer_size() else _LINGERING
        elif not self._writable:
            phase = _SENDING
        elif self._answering is not None or self._queue:
            phase = _ANSWERING
        elif parser.request is not None:
            phase = _BODY
        else:
            phase = _HEAD if parser.began else _IDLE
        if phase is not self._phase:
            self._enter(phase)
            if phase is _BODY:
                self._since = self._lane.now

    def _enter(self, phase: Phase) -> None:
        """Enters a phase, or begins its time anew. Nothing but `_begin` sets the deadline besides."""
        self._phase = phase
        self._deadline = self._lane.now + self._lane.times[phase]
        if phase is _SENDING:
            self._unsent = self.transport.get_write_buffer_size()

    def _is_slow(self, now: float) -> bool:
        """Whether the body that is being received comes more slowly than any useful client sends. A pause is no matter of this."""
        lane = self._lane
        overtime = now - self._since - lane.times[_BODY]
        return self._parser.size + len(self._unread) < overtime * lane.least_rate

    def _look_at_unsent(self) -> None:
        """Begins the time of a send anew if the client has taken some of it."""
        unsent = self.transport.get_write_buffer_size()
        if unsent < self._unsent:
            self._enter(_SENDING if unsent or not self._ended else _LINGERING)
        else:
            self._unsent = unsent

    # -- turns --------------------------------------------------------------

    def _take(self, turn: Turn) -> None:
        """Answers a request that has come whole, now or when its turn comes.

        A client that sends many requests at once gets a few answers in each step, and writes of many clients stand in one line.
        """
        if self._answering is not None or self._queue or not self._writable:
            self._put_off(turn)
            return
        turns = self._turns
        if turns.begun < turns.unasked:
            turns.begun += 1  # what `admits` does, without the call
            is_full = False
        else:
            is_full = not turns.admits(turn.request.is_cheap)
        if is_full or self._left <= 0:
            self._put_off(turn)
            self._stand_in_line(is_read=turn.request.is_cheap and self._left > 0)
        else:
            try:
                self._begin(turn)
            except Exception as error:
                self._fail(error)  # here, or the parser would take it for its own

    def _check_head(self, request: Request) -> None:
        """Refuses a request with a large body by its head alone, unless requests before it have yet to be decided."""
        if self._answering is None and not self._queue:
            self._lane.handler.check_head(request)

    def _waits(self, data: memoryview) -> bool:
        """Whether octets begin a request that will stand in line in any case, as POST and PUT do in a crowd: it is not even parsed
        before its turn."""
        return self._phase is _IDLE and data[0] == _P

    def _put_off(self, turn: Turn) -> None:
        """Has a request wait for its turn. If there is no room for it, it is refused, and nothing after it is read."""
        if turn.refusal is None:
            try:
                self._lane.budget.take(_QUEUED)
            except StreamError as refusal:
                self._give_back(turn)
                self._parser.refuse(refusal)
                return
            turn.taken += _QUEUED
        self._queue.append(turn)

    def _receive(self, data: memoryview) -> None:
        """Parses as much of `data` as this turn of the loop has time for, and keeps the rest until it is this connection's turn."""
        parser, turns = self._parser, self._turns
        if self._unread or (turns.is_full and (len(data) >= LITTLE or self._waits(data))):
            size = 0
        else:
            size = min(len(data), max(_BITE, parser.body_left))
            turns.count(parser.feed, data[:size])
            # The first octets may hold a head, and only the head says how many of the rest are one part of a body.
            if more := min(len(data) - size, parser.body_left):
                turns.count(parser.feed, data[size : size + more])
                size += more
        if size < len(data) and not parser.over:
            self._set_aside(data[size:])
        elif size >= _LARGE and not self._may_go_on and not self._pausing and not parser.over:
            self._pause_reading()  # or the loop would go on reading this socket for as long as it has more
            self._stand_in_line()

    @property
    def _may_go_on(self) -> bool:
        """Whether the loop may read this socket again in this turn: nobody stands in line, and the turn has time left."""
        turns = self._turns
        return self._is_alone and turns.begun < _AT_ONCE and not len(turns)

    def _set_aside(self, rest: memoryview) -> None:
        """Keeps octets until it is this connection's turn."""
        try:
            self._lane.budget.take(len(rest))
        except StreamError as refusal:
            self._parser.refuse(refusal)
            return
        self._unread = b"".join((self._unread, rest))  # a copy
        self._has_room = False
        if not self._pausing:
            self._pause_reading()
        self._stand_in_line()

    def _feed_unread(self) -> None:
        """Parses some of the octets that wait."""
        parser = self._parser
        unread = self._unread
        if not unread:
            return
        size = len(unread) if parser.over else max(_BITE, min(len(unread), parser.body_left))
        view = memoryview(unread)
        left = len(view) - min(size, len(view))
        self._lane.budget.give_back(len(view) - left)
        is_half = left * 2 > len(
            cast(bytes, view.obj)
        )  # a view of less would hold more than counts
        self._unread = view[size:] if is_half else bytes(view[size:])
        parser.feed(view[:size])
        if self._phase is _BODY:
            self._enter(_BODY)

    def _stand_in_line(self, *, is_read: bool = False) -> None:
        """Has `_advance` called when it is this connection's turn."""
        if not self._in_line:
            self._in_line = True
            if is_read:
                line = Line.READS
            elif self._events is None and not self._sends_no_more:
                line = Line.URGENT
            else:
                line = Line.WORK
            self._turns.add(self._advance, line)

    def _begin(self, turn: Turn) -> None:
        """Answers a request whose turn it is."""
        self._answering = turn
        self._left -= 1
        self._has_room = False
        self._phase, self._deadline = _ANSWERING, math.inf  # what `_enter` does, without the call
        request = turn.request
        if turn.refusal is not None:
            self._send(turn, self._lane.handler.refuse(request, turn.refusal))
            return
        answer = self._lane.handler.handle(request, self._wake)
        request.body = b""
        if isinstance(answer, Ticket):
            self._ticket = answer
            answer.add_callback(self._answered)
            if self._sends_no_more and self._is_polling:
                self._close()
        else:
            self._answer(turn, answer)

    def _next(self) -> None:
        """Goes on to the requests that wait; without any, to what the client does next."""
        queue = self._queue
        while queue and self._answering is None and self._writable:
            if self._left <= 0:
                self._stand_in_line()
                return
            self._begin(queue.popleft())
        if queue or not self._writable:
            return
        if self._unread:
            if self._answering is None:
                self._stand_in_line()
            return
        if self._pausing:
            self._resume_reading()  # also while a live read goes on, to see its client leave
        if self._answering is not None:
            return
        if self._parser.over:
            self._end()
        elif self._parser.asks:
            self._invite()

    def _invite(self) -> None:
        """Tells a client that asked first to send its body."""
        self._parser.asks = False
        self.transport.write(wire.CONTINUE)

    # -- answers ------------------------------------------------------------

    def _answer(self, turn: Turn, reply: Reply) -> None:
        if turn.taken:
            self._lane.budget.give_back(turn.taken)
            turn.taken = 0
        if turn.incoming is not None:
            turn.incoming.release()
        if isinstance(reply, Response):
            self._send(turn, reply)
        else:
            self._stream(turn, reply)

    def _send(self, turn: Turn, response: Response) -> None:
        """Sends a whole response and ends the turn."""
        transport = self.transport
        if transport.is_closing():
            return
        keep_alive = self._stays(turn)
        framing = self._lane.date if keep_alive else self._lane.date + wire.CLOSE
        if response.status == 204:
            transport.write(wire.head(response, framing))
        elif type(response) is KeptResponse:
            transport.write(response.before + framing + response.after)
        else:
            to_head = turn.request.method == "HEAD"
            head = wire.head(response, framing + wire.length(response, to_head))
            if to_head:
                transport.write(head)
            elif (size := response.size) <= _UNSENT:
                transport.write(head + response.whole)
            else:
                transport.writelines((head, *response.parts))
                if size > _LARGE:
                    self._left = 0
                    self._written += size
                    self._hold(response.holder)
        self._answering = None
        if not keep_alive:
            self._finish()

    def _stays(self, turn: Turn) -> bool:
        """Whether another request may follow. After a refusal of what cannot be read on from, none may."""
        return (
            turn.keep_alive and self._keep_alive and (not self._parser.over or len(self._queue) > 0)
        )

    def _finish(self) -> None:
        """Answers no more: the last response has been sent."""
        self._parser.end()
        for turn in self._queue:
            self._give_back(turn)
        self._queue.clear()

    def _stream(self, turn: Turn, live: Live) -> None:
        """Begins an event stream: in chunks, or to an old client until the connection ends. Its request is let go, which would be
        held as long as the client reads."""
        turn.request = NO_REQUEST
        self._events = live.events
        if self.transport.is_closing():
            return  # what closes the events comes next
        framing = self._lane.date
        self._keep_alive = self._stays(turn)
        if turn.chunked:
            framing += wire.CHUNKED
        if not self._keep_alive:
            framing += wire.CLOSE
        self.transport.write(wire.head(live.head, framing))
        if len(self._turns):
            self._stand_in_line()
        else:
            self._pump()

    def _pump(self) -> None:
        """Sends what an event stream has, as far as the client takes it."""
        events = self._events
        if events is None or self.transport.is_closing():
            return
        turn = self._answering
        assert turn is not None
        chunked = turn.chunked
        write = self.transport.write
        pulled = 0
        while self._writable:
            data = events.pull()
            if data is WAIT:
                if self._holds and not self.transport.get_write_buffer_size():
                    self._release_page()
                if self._sends_no_more:
                    last = events.farewell()
                    write(wire.chunk(last) if chunked else last)
                    self._end_stream(chunked)
                return
            if data is END:
                self._end_stream(chunked)
                return
            write(self._lane.chunk(data) if chunked else data)
            if events.holder is not None:
                self._written += len(data)
            pulled += 1
            if pulled == PULLS:
                self._stand_in_line()  # a reader that takes all at once has its share too
                return
        self._hold(events.holder)

    def _end_stream(self, chunked: bool) -> None:
        events, self._events = self._events, None
        cast(EventStream, events).close()
        if chunked:
            self.transport.write(wire.LAST_CHUNK)
        self._answering = None
        if not (self._keep_alive and chunked):
            self._finish()

    def _turn_away(self, refusal: StreamError) -> None:
        """Refuses the connection itself, and closes it at once: lingering, it would hold the handle that is missing."""
        lane = self._lane
        self._parser.over = True
        response = lane.handler.refuse(NO_REQUEST, refusal)
        self.transport.write(wire.refusal(response, lane.date))
        self._close()

    # -- large pages --------------------------------------------------------

    @property
    def taken(self) -> int:
        """Octets of large pages that the client has taken."""
        return self._written - self.transport.get_write_buffer_size()

    def cut(self) -> None:
        """Ends the connection of a client that is too slow while others wait."""
        self.transport.abort()

    @property
    def unsent(self) -> int:
        """Octets that the client has not taken, besides those of a large page, which count by themselves."""
        return self._unsent if self._phase is _SENDING and not self._holds else 0

    @property
    def deadline(self) -> float:
        """When the client must have done what it is its turn to do, in the loop's time."""
        return self._deadline

    def _hold(self, page: object) -> None:
        """Holds what counts a large page until the client has taken it."""
        if page is not None and self.transport.get_write_buffer_size():
            self._lane.outgoing.hold(self, page)
            self._holds = True

    def _release_page(self) -> None:
        """Lets go of a large page that the client has taken."""
        if self._holds and (self._events is None or self._events.holder is None):
            self._holds = False
            self._lane.outgoing.release(self)

    # -- the end ------------------------------------------------------------

    @property
    def _is_polling(self) -> bool:
        """Whether a long-poll waits. It is given up when its client sends no more: hardly ever does one that half closes still wait."""
        turn = self._answering
        return turn is not None and self._ticket is not None and b"live=" in turn.request.query

    def _end(self) -> None:
        """Closes after the last response, leaving a client that still sends the time to read it."""
        if self._ended or self.transport.is_closing():
            return
        if self._scheme == "http" and not self._sends_no_more:
            self._ended = True
            self.transport.write_eof()
        else:
            self._close()

    def _close(self) -> None:
        """Closes once the client has taken what it was sent."""
        self._ended = True
        self._turns.spend(_CLOSING)
        self.transport.close()

    def _fail(self, error: Exception) -> None:
        """Cuts the connection, after an exception that nobody has foreseen."""
        _log.error("a connection failed", exc_info=error)
        self._give_everything_back()
        self.transport.abort()

    def _clean_up(self) -> None:
        """Gives back what a connection that is gone holds."""
        address, self._address = self._address, None
        self._lane.admission.left(address)
        self._give_everything_back()
        if self._parser is not None:
            self._parser.release()

    def _give_everything_back(self) -> None:
        """Gives up what the requests of this connection hold. A write is seen through all the same.

        An exception is logged and goes no further: this is what is called after one.
        """
        if self._parser is not None:
            self._parser.end()
        for turn in self._queue:
            self._give_back(turn)
        self._queue.clear()
        self._lane.outgoing.release(self)
        unread, self._unread = self._unread, b""
        self._lane.budget.give_back(len(unread))
        events, self._events = self._events, None
        ticket, answering = self._ticket, self._answering
        if answering is not None and ticket is None:
            self._give_back(answering)
        try:
            if events is not None:
                events.close()
            elif answering is not None and ticket is not None and answering.request.method == "GET":
                ticket.cancel()  # a read whose client has left is given up
        except Exception as error:
            _log.error("what a connection held was not given up", exc_info=error)

    def _give_back(self, turn: Turn) -> None:
        """Gives back what a request holds of the budget."""
        self._lane.budget.give_back(turn.taken)
        turn.taken = 0
        if turn.incoming is not None:
            turn.incoming.release()

    def _pause_reading(self) -> None:
        """Reads no more until the requests that have come are answered."""
        if not self.transport.is_closing():
            self._pausing = True
            self.transport.pause_reading()

    def _resume_reading(self) -> None:
        self._pausing = False
        if self._parser.began:
            self._has_room = True  # 2 KiB at a time, a large body would take minutes beside a crowd
            self._is_alone = not len(self._turns)
            self._turns.spend(_PART)
        if not self.transport.is_closing():
            self.transport.resume_reading()
