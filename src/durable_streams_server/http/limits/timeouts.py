"""How long a client may take for each part of its conversation with the server. Every kind of connection uses these times."""

import msgspec

from ...protocol.limits import LEAST_BODY_RATE


class Timeouts(msgspec.Struct, frozen=True):
    """How long a client may take, in seconds.

    Attributes:
        idle: time between two requests. It is longer than load balancers keep idle connections, because their clients
            would see resets otherwise (TRAPS 52).
        head: time from the first octet of a request to the end of its head.
        body: longest pause while a body is being received.
        send: longest time in which a client with unread data may read none of it.
        linger: time that a client which still sends has to read the last response before its connection is cut.
        least_rate: lowest average rate of a body in bytes per second, measured from `body` seconds after its start. Slow mobile
            links are faster. Without this limit, a client could hold memory for as long as it likes.
    """

    idle: float = 75.0
    head: float = 30.0
    body: float = 30.0
    send: float = 30.0
    linger: float = 2.0
    least_rate: int = LEAST_BODY_RATE
