"""What a lane gets for a request: a complete response, or a response whose body is an event stream."""

from __future__ import annotations

import msgspec

from ..errors import MethodNotAllowed
from ..protocol import render
from ..protocol.render import Response
from ..streams.event_stream import EventStream
from .browser import METHODS


class Live(msgspec.Struct):
    """A response whose body is an event stream. Whoever sends the response must close `events`."""

    head: Response
    events: EventStream


Reply = Response | Live


def show_events(events: EventStream) -> Live:
    """Returns the reply that begins an event stream."""
    return Live(render.event_stream(events.state), events)


def show_resumed_events(events: EventStream) -> Reply:
    """Returns the reply to an EventSource that reconnects: its events, or 204 at the end of a closed stream.

    204 is the only response after which an EventSource does not reconnect.
    """
    end = events.end
    if end is None:
        return show_events(events)
    events.close()
    return render.nothing_new(end, None)


def unknown_method() -> MethodNotAllowed:
    """Returns the error that refuses a method which no stream has."""
    return MethodNotAllowed("the method is not known here", headers=[(b"allow", METHODS)])
