"""The phases of a native connection, and how long each may last.

A connection is in one phase at any time, and its deadline follows from that phase alone.
"""

import enum
import math

from ..limits.timeouts import Timeouts


class Phase(enum.IntEnum):
    """The phase of a connection, which says who must act next. The values index the tuple that `phase_durations` returns."""

    IDLE = 0  # The client acts next. It has not begun a request.
    HEAD = 1  # The client acts next. It has sent a part of a head.
    BODY = 2  # The client acts next. It has sent a head and a part of the body.
    ANSWERING = (
        3  # The server acts next. It answers a request or follows a stream for an SSE reader.
    )
    SENDING = 4  # The client acts next. It has not read what the server sent.
    LINGERING = 5  # The client acts next. It was sent the last response and may read it before its connection is cut.
    CLOSED = 6  # Nobody acts.


def phase_durations(timeouts: Timeouts) -> tuple[float, ...]:
    """Returns how many seconds each phase may last, indexed by `Phase`. A phase without a limit has infinity."""
    durations = {  # names every phase, so that a new phase without a duration raises KeyError
        Phase.IDLE: timeouts.idle,
        Phase.HEAD: timeouts.head,
        Phase.BODY: timeouts.body,
        Phase.ANSWERING: math.inf,
        Phase.SENDING: timeouts.send,
        Phase.LINGERING: timeouts.linger,
        Phase.CLOSED: math.inf,
    }
    return tuple(durations[phase] for phase in Phase)
