"""Finds the actions of a request: the verbs that its client must be allowed to use, and the path of each.

    POST /v1/stream/a with a body and `Stream-Closed: true`   ->   append and close on /v1/stream/a

Access control by tokens and the guard of a mounted application both use this file, so a verb means the same in both.
"""

from __future__ import annotations

from typing import Final

from ...protocol.commands import asks_to_close
from ...protocol.names import (
    HEALTH_PATHS,
    OPERATIONS_PATHS,
    STREAM_FORKED_FROM,
    TRANSFER_ENCODING,
)
from ...protocol.permissions import Verb
from ..control import routes
from ..request import Request
from ..targets import Targets

#: A verb, and the decoded path below the mount on which the client uses it.
Action = tuple[Verb, str]
Actions = tuple[Action, ...]

#: The actions of a request that anybody may make, or that is refused whoever makes it.
NOTHING: Final[Actions] = ()
_OF_METHODS: Final[dict[str, Verb]] = {"GET": "read", "HEAD": "read", "DELETE": "delete"}


def actions_of(request: Request, targets: Targets) -> Actions:
    """Returns the actions of a request.

    A preflight has none, because it precedes any authorisation (TRAPS 44). An unknown method has none, because it is refused. The
    requests of workers have none, because they carry a token of their own. Health checks have none, because load balancers send no
    token. A control route that does not exist needs `admin`, so that strangers cannot try which routes exist.

    Raises:
        BadRequest, NotFound: The path, or that of the source of a fork, names no stream. The handler would refuse it likewise.
    """
    method = request.method
    if method == "OPTIONS":
        return NOTHING
    path, is_own = targets.find(request.raw_path, request.root_path)
    if is_own:
        return _of_route(path, targets)
    if method == "POST":
        return _of_append(request, path)
    if method == "PUT":
        return _of_create(request, path, targets)
    verb = _OF_METHODS.get(method)
    return NOTHING if verb is None else ((verb, path),)


def _of_append(request: Request, path: str) -> Actions:
    """Returns the actions of a POST, which appends its body, closes the stream, or does both."""
    if not asks_to_close(request.headers):
        return (("append", path),)
    has_body = request.body or request.declared or TRANSFER_ENCODING in request.headers
    return (("append", path), ("close", path)) if has_body else (("close", path),)


def _of_create(request: Request, path: str, targets: Targets) -> Actions:
    """Returns the actions of a PUT, which creates a stream or forks one."""
    source = request.headers.get(STREAM_FORKED_FROM)
    if source is None:
        return (("create", path),)
    return ("fork", path), ("read", targets.decode_source(source, request.root_path))


def _of_route(path: str, targets: Targets) -> Actions:
    """Returns the action of a request to one of the server's own routes, on the path of the route itself."""
    if path in OPERATIONS_PATHS:
        return NOTHING if path in HEALTH_PATHS else (("admin", path),)
    found = routes.find(path.removeprefix(targets.reserved + "/"))
    if found is None:
        return (("admin", path),)
    access = found.route.access
    if access == "public" or access == "worker":
        return NOTHING
    return ((access, path),)
