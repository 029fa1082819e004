"""The routes that responses are counted by. A route is a small number, so that counters are lists and not dictionaries.

The handler marks the requests whose paths are not those of streams. The route of any other request follows from its method and its query.
"""

from __future__ import annotations

from typing import Final

from ...protocol.names import LIVE_LONG_POLL, LIVE_SSE, OPERATIONS_PATHS, QUERY_LIVE
from ..request import NO_REQUEST, UNROUTED, Request

APPEND: Final = 1
CREATE: Final = 2
DELETE: Final = 3
READ: Final = 4  # a read that does not wait for new data
LONG_POLL: Final = 5
SSE: Final = 6
HEAD: Final = 7
OPTIONS: Final = 8
CONTROL: Final = 9  # a path below `__ds`
OPERATIONS: Final = 10  # `/healthz`, `/readyz` and `/metrics`
OTHER: Final = 11  # an unknown method, or octets that are not a whole request

#: The name of each route, indexed by its number. No response has the route 0.
ROUTES: Final = (
    "",
    "append",
    "create",
    "delete",
    "read",
    "long_poll",
    "sse",
    "head",
    "options",
    "control",
    "operations",
    "other",
)
#: The routes of reads that wait for new data.
LIVE: Final = (LONG_POLL, SSE)

_BY_METHOD: Final = {
    "POST": APPEND,
    "PUT": CREATE,
    "DELETE": DELETE,
    "GET": READ,
    "HEAD": HEAD,
    "OPTIONS": OPTIONS,
}
_OPERATIONS_PATHS: Final = frozenset(path.encode() for path in OPERATIONS_PATHS)
_SSE: Final = f"{QUERY_LIVE}={LIVE_SSE}".encode()
_LONG_POLL: Final = f"{QUERY_LIVE}={LIVE_LONG_POLL}".encode()


def route_of(request: Request) -> int:
    """Returns the route of a request, also of one that was refused before it reached the handler."""
    route = request.route
    if route != UNROUTED:
        return route
    if request.raw_path in _OPERATIONS_PATHS:
        return OPERATIONS
    if request.raw_path == NO_REQUEST.raw_path:  # names no stream, or no path was received
        return OTHER
    route = _BY_METHOD.get(request.method, OTHER)
    if route == READ and request.query:
        if _SSE in request.query:
            return SSE
        if _LONG_POLL in request.query:
            return LONG_POLL
    return route
