"""Asks the host application's guard whether a request is allowed, before the server acts on the request.

    async def guard(verb: str, path: str, scope: Scope) -> bool:
        return verb == "read" and path.startswith("/public/")

    app = create_app(guard=guard)

The guard receives the same path that the request acts on: decoded, and below the application's mount (DESIGN, 11).
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, Literal

from ..errors import Forbidden

Scope = MutableMapping[str, Any]

#: What a request does. `read` is GET and HEAD, live or not, and also the use of a stream as the source of a fork. `append` is every POST to
#: a stream, also one that closes it. `create` is PUT. `control` is every request below `__ds`.
Verb = Literal["read", "create", "append", "delete", "control"]

#: An asynchronous function that decides on each request, before its body is received. It is called with the verb, the decoded path below the
#: mount, and the ASGI scope. It returns True to allow the request, or False to refuse it with 403. It may also raise a `StreamError`, such
#: as `Unauthorized`, to refuse it in its own words; any other exception is answered with 500. A live read is checked once, when it begins.
Guard = Callable[[Verb, str, Scope], Awaitable[bool]]

#: The verb for each HTTP method of a stream's URL.
VERBS: Final[dict[str, Verb]] = {
    "GET": "read",
    "HEAD": "read",
    "PUT": "create",
    "POST": "append",
    "DELETE": "delete",
}


async def check(guard: Guard, actions: tuple[tuple[Verb, str], ...], scope: Scope) -> None:
    """Asks the guard about every action of a request, and returns if it allows all of them.

    Raises:
        Forbidden: The guard returned False.
        TypeError: The guard returned neither True nor False, for example a coroutine that it did not await.
        Exception: Any exception of the guard.
    """
    for verb, path in actions:
        allowed = await guard(verb, path, scope)
        if allowed is not True and allowed is not False:
            raise TypeError(f"the guard must return True or False, not {type(allowed).__name__}")
        if not allowed:
            raise Forbidden("this is not allowed here")
