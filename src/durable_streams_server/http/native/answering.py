"""Writes responses and event streams to the socket of a native connection."""

from __future__ import annotations

from typing import Final, cast

from ...errors import StreamError
from ...protocol.names import X_REQUEST_ID
from ...protocol.render import Response
from ...streams.event_stream import END, PULLS, WAIT, EventStream
from .. import wire
from ..kept import KeptResponse
from ..observing.observer import LiveRead
from ..replies import Live, Reply
from ..request import NO_REQUEST
from ..request_ids import line_to_send
from .ending import Ending
from .pending import PendingRequest

#: Bytes in the write buffer above which the server stops writing to a client. A body of at most this size is joined to its head and
#: written in one call.
MAX_UNSENT: Final = 16 * 1024
#: Bytes of a response above which the connection begins no further request in the same step.
_LARGE_RESPONSE: Final = 64 * 1024
#: The smallest status of an error.
_ERROR: Final = 400


class Answering(Ending):
    """The part of a connection that writes responses and event streams."""

    __slots__ = ()

    def _reply(self, pending: PendingRequest, reply: Reply) -> None:
        """Sends a response or begins an event stream, and no longer counts the request's body against the budget."""
        if pending.taken:
            self._lane.budget.give_back(pending.taken)
            pending.taken = 0
        if pending.incoming is not None:
            pending.incoming.release()
        if isinstance(reply, Response):
            self._send(pending, reply)
        else:
            self._begin_events(pending, reply)

    def _send(self, pending: PendingRequest, response: Response) -> None:
        """Sends a whole response, so that the next request can begin."""
        transport = self.transport
        lane = self._lane
        request = pending.request
        if transport.is_closing():  # the request was answered, although nobody reads the response
            lane.observer.finished(request, response.status, pending.since, 0, self._peer, pending)
            return
        keep_alive = self._may_continue(pending) and not response.is_last
        framing = lane.date if keep_alive else lane.date + wire.CLOSE
        if request.id or response.status >= _ERROR or X_REQUEST_ID in request.headers:
            framing += line_to_send(request, response)  # the condition inlines `may_need_id`
        size = 0
        if response.status == 204:
            transport.write(wire.head(response, framing))
        elif type(response) is KeptResponse:
            transport.write(response.before + framing + response.after)
            if request.method != "HEAD":
                size = response.size
        else:
            to_head = request.method == "HEAD"
            head = wire.head(response, framing + wire.length_line(response, to_head))
            if to_head:
                transport.write(head)
            elif (size := response.size) <= MAX_UNSENT:
                transport.write(head + response.whole)
            else:
                transport.writelines((head, *response.parts))
                if size > _LARGE_RESPONSE:
                    self._requests_left = 0
                    self._page_bytes += size
                    self._hold_page(response.holder)
        lane.observer.finished(request, response.status, pending.since, size, self._peer, pending)
        self._answering = None
        if not keep_alive:
            self._drop_further_requests()

    def _may_continue(self, pending: PendingRequest) -> bool:
        """Returns whether the connection can accept another request after this one.

        It cannot if either side asked to close it, or if the parser could not find the end of the request.
        """
        return (
            pending.keep_alive
            and self._keep_alive
            and (not self._parser.is_over or len(self._queue) > 0)
        )

    def _begin_events(self, pending: PendingRequest, live: Live) -> None:
        """Begins an event stream. The body is chunked, or ends with the connection if the client speaks HTTP/1.0."""
        request = pending.request
        pending.live = self._lane.observer.live_began(
            request, live.head.status, pending.since, self._peer
        )
        pending.request = NO_REQUEST  # frees the request, because the stream may last for hours
        self._events = live.events
        if self.transport.is_closing():
            return  # `connection_lost` follows and closes the events
        framing = self._lane.date + line_to_send(request, live.head)
        self._keep_alive = self._may_continue(pending)
        if pending.chunked:
            framing += wire.CHUNKED
        if not self._keep_alive:
            framing += wire.CLOSE
        self.transport.write(wire.head(live.head, framing))
        if len(self._turns):
            self._enqueue_step()
        else:
            self._send_events()

    def _send_events(self) -> None:
        """Sends the next events of the event stream, until no more are ready or the write buffer is full."""
        events = self._events
        if events is None or self.transport.is_closing():
            return
        pending = self._answering
        assert pending is not None
        chunked = pending.chunked
        live = cast(LiveRead, pending.live)
        write = self.transport.write
        pulled = 0
        while self._is_writable:
            data = events.pull()
            if data is WAIT:
                if self._holds_page and not self.transport.get_write_buffer_size():
                    self._release_page()
                if self._received_eof:
                    last = events.farewell()
                    write(wire.chunk(last) if chunked else last)
                    live.add(len(last))
                    self._end_events(chunked)
                return
            if data is END:
                self._end_events(chunked)
                return
            write(self._lane.chunk(data) if chunked else data)
            live.add(len(data))
            if events.holder is not None:
                self._page_bytes += len(data)
            pulled += 1
            if pulled == PULLS:
                self._enqueue_step()  # because a client that reads fast must leave time for others
                return
        self._hold_page(events.holder)

    def _end_events(self, chunked: bool) -> None:
        """Ends the body of an event stream, so that the next request can begin."""
        events, self._events = self._events, None
        cast(EventStream, events).close()
        if chunked:
            self.transport.write(wire.LAST_CHUNK)
        cast(LiveRead, cast(PendingRequest, self._answering).live).end()
        self._answering = None
        if not (self._keep_alive and chunked):
            self._drop_further_requests()

    def _turn_away(self, refusal: StreamError) -> None:
        """Sends an error response and closes the connection at once, because the server has too many connections.

        The client gets no time to read the response, because the server needs the file handle of the connection.
        """
        lane = self._lane
        response = lane.handler.refuse(NO_REQUEST, refusal)
        self.transport.write(wire.refusal(response, lane.date))
        lane.observer.refused(response, self._peer)
        self._close()
