"""Time limits for the client of a connection. Every kind of connection uses them."""

import msgspec

from ...protocol.limits import LEAST_BODY_RATE


class Timeouts(msgspec.Struct, frozen=True):
    """Time limits for the client of a connection, in seconds.

    Attributes:
        idle: longest time between two requests. Load balancers keep idle connections for less time. If the server closed a connection
            first, a load balancer could send a request on it and get a reset (TRAPS 52).
        head: longest time from the first octet of a request to the end of its head.
        body: longest pause while a body is being received.
        send: longest time that a client may read nothing while the server has data for it.
        linger: time to read the last response before the connection is cut, for a client that may still be sending.
        least_rate: lowest average rate of a body in bytes per second, measured from `body` seconds after its start. Slow mobile
            links are faster. Without this limit, a client could hold the memory of a body as long as it likes.
    """

    idle: float = 75.0
    head: float = 30.0
    body: float = 30.0
    send: float = 30.0
    linger: float = 2.0
    least_rate: int = LEAST_BODY_RATE
