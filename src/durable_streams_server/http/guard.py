"""Asks the host application's guard whether a request is allowed, before the server acts on the request.

    async def guard(verb: str, path: str, scope: Scope) -> bool:
        return verb == "read" and path.startswith("/public/")

    app = create_app(guard=guard)

The guard receives the same path that the request acts on: decoded, and below the application's mount (DESIGN, 11). The verbs are those of
tokens (`gate/actions.py`).
"""

from collections.abc import Awaitable, Callable, MutableMapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from ..errors import Forbidden
from ..protocol.permissions import Verb
from ..protocol.units import SECOND
from .gate.actions import Actions

Scope = MutableMapping[str, Any]

#: An asynchronous function that decides on each request, before its body is received. It is called with the verb, the decoded path below the
#: mount, and the ASGI scope. It returns True to allow the request, or False to refuse it with 403. It may also return a `datetime` with a
#: time zone, which allows the request and ends a live read at that time. It may raise a `StreamError`, such as `Unauthorized`, to refuse the
#: request in its own words; any other exception is answered with 500. A live read is checked once, when it begins.
Guard = Callable[[Verb, str, Scope], Awaitable[bool | datetime]]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(seconds=1) // SECOND


async def check(guard: Guard, actions: Actions, scope: Scope) -> int | None:
    """Asks the guard about every action of a request.

    Returns:
        When a live read must end, in microseconds since 1970, or None. The earliest time counts.

    Raises:
        Forbidden: The guard returned False.
        TypeError: The guard returned something else, for example a coroutine that it did not await, or a time without a time zone.
        Exception: Any exception of the guard.
    """
    until: int | None = None
    for verb, path in actions:
        allowed = await guard(verb, path, scope)
        if isinstance(allowed, datetime) and allowed.tzinfo is not None:
            end = (allowed - _EPOCH) // _MICROSECOND
            until = end if until is None else min(until, end)
        elif allowed is not True and allowed is not False:
            raise TypeError(
                "the guard must return True, False or a datetime with a time zone, "
                f"not {type(allowed).__name__}"
            )
        elif not allowed:
            raise Forbidden("this is not allowed here")
    return until
