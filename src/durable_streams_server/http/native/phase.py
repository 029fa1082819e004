"""The phases of a native connection, and how long each may last.

A connection is in one phase at any time, and its deadline follows from that phase alone. `Timeouts` is the only table of times.
"""

import enum
import math

import msgspec

from ...protocol.limits import LEAST_BODY_RATE


class Phase(enum.IntEnum):
    """Whose turn it is on a connection. The values are places in `Timeouts.table`."""

    IDLE = 0  # the client's: no request has begun
    HEAD = 1  # the client's: a head has begun and is not complete
    BODY = 2  # the client's: a head is complete and its body is not
    ANSWERING = (
        3  # the server's: a request is being answered, or an event stream follows its stream
    )
    SENDING = 4  # the client's: it has not taken what it was sent
    LINGERING = 5  # the client's: it was sent the last answer, and may read it before it is cut off
    CLOSED = 6  # nobody's


class Timeouts(msgspec.Struct, frozen=True):
    """How long a client may take, in seconds.

    Attributes:
        idle: between requests; longer than load balancers keep connections, or they would see resets (TRAPS 52).
        head: from a request's first octet to the end of its head.
        body: without an octet of a body that is not complete.
        send: without an octet taken by a client that has something to read.
        linger: after a last response, for a client that has not stopped sending to read it.
        least_rate: bytes in a second that a body must come at, counted from `body` seconds after its begin: a slow mobile link is
            faster, and nobody holds memory for as long as they like.
    """

    idle: float = 75.0
    head: float = 30.0
    body: float = 30.0
    send: float = 30.0
    linger: float = 2.0
    least_rate: int = LEAST_BODY_RATE

    @property
    def table(self) -> tuple[float, ...]:
        """The seconds that each phase may last, by `Phase`; infinity where the client has nothing to do."""
        times = {  # every phase is named, so that a new one needs a time
            Phase.IDLE: self.idle,
            Phase.HEAD: self.head,
            Phase.BODY: self.body,
            Phase.ANSWERING: math.inf,
            Phase.SENDING: self.send,
            Phase.LINGERING: self.linger,
            Phase.CLOSED: math.inf,
        }
        return tuple(times[phase] for phase in Phase)
