"""Asks the host application whether a request may be carried out, before anything is done with it.

    async def guard(verb: str, path: str, scope: Scope) -> bool:
        return verb == "read" and path.startswith("/public/")

    app = create_app(guard=guard)

The path is the one that the request is carried out on: decoded, and below the application's mount (DESIGN, 11).
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, Literal

from ..errors import Forbidden

Scope = MutableMapping[str, Any]

#: What a request would do. `read` is GET and HEAD, live or not, and the source of a fork; `append` is every POST to a stream, so also a
#: close; `create` is PUT; `control` is anything below `__ds`.
Verb = Literal["read", "create", "append", "delete", "control"]

#: Called with the verb, the stream's path, and the ASGI scope, which tells who is asking. Returns True to let the request pass, or
#: False for 403. It may raise a `StreamError`, such as `Unauthorized`, which is the answer then; any other exception is 500.
Guard = Callable[[Verb, str, Scope], Awaitable[bool]]

#: The verb of each method, for a stream.
VERBS: Final[dict[str, Verb]] = {
    "GET": "read",
    "HEAD": "read",
    "PUT": "create",
    "POST": "append",
    "DELETE": "delete",
}


async def check(guard: Guard, acts: tuple[tuple[Verb, str], ...], scope: Scope) -> None:
    """Returns if the guard allows every act of a request.

    Raises:
        Forbidden: it does not.
        TypeError: it returned neither True nor False, such as a coroutine that somebody forgot to await.
        Exception: whatever the guard raises.
    """
    for verb, path in acts:
        allowed = await guard(verb, path, scope)
        if allowed is not True and allowed is not False:
            raise TypeError(f"the guard must return True or False, not {type(allowed).__name__}")
        if not allowed:
            raise Forbidden("this is not allowed here")
