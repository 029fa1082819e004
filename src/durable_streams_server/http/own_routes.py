"""`OwnRoutes`: the routes of the server itself, which are those below `__ds` and those of operators' tools."""

from __future__ import annotations

from ..errors import StreamError
from ..protocol.names import OPERATIONS_PATHS
from ..streams.engine import Engine
from ..subscriptions.service import Service
from .browser import METHODS
from .control.control import Control
from .control.requests import Answer
from .control.routes import find
from .facts import ServerFacts
from .gate.permit import Permit
from .observing.metrics import Metrics
from .operations import METHODS as OPERATIONS_METHODS
from .operations import Operations
from .options import HandlerOptions
from .request import Request
from .targets import Targets


class OwnRoutes:
    """Answers requests whose path `Targets.find` calls one of the server's own routes.

    Args:
        engine: Runs the streams.
        service: Runs the subscriptions.
        options: Limits on requests.
        targets: Has the stream root, and the path below which the control routes are.
        facts: What the server tells about itself.
        metrics: Answers `/metrics`. None returns 404 there.
    """

    def __init__(
        self,
        engine: Engine,
        service: Service,
        options: HandlerOptions,
        targets: Targets,
        facts: ServerFacts,
        metrics: Metrics | None = None,
    ) -> None:
        self.control = Control(engine, service, options, targets, facts)
        self.operations = Operations(engine, facts, metrics)
        self._targets = targets

    def handle(self, request: Request, path: str, permit: Permit) -> Answer:
        """Returns a ticket for the response to a request.

        Args:
            request: The request.
            path: The decoded path.
            permit: What the client may do.

        Raises:
            StreamError: The request is refused.
        """
        if path in OPERATIONS_PATHS:
            return self.operations.handle(request, path)
        return self.control.handle(request, path, permit)

    def check_head(self, request: Request) -> None:
        """Refuses a request whose head alone is enough to refuse it.

        Raises:
            TooLarge, UnsupportedMedia: The body is too large, or has a content coding.
        """
        self.control.check_head(request)

    def methods_of(self, request: Request) -> bytes:
        """Returns the methods of a request's path, as in an `Allow` header, also if the path is a stream's.

        A preflight is never refused, so a path that no stream can have has the methods of a stream.
        """
        try:
            path, is_own = self._targets.find(request.raw_path, request.root_path)
        except StreamError:
            return METHODS
        if not is_own:
            return METHODS
        if path in OPERATIONS_PATHS:
            return OPERATIONS_METHODS.encode()
        found = find(path.removeprefix(self._targets.reserved + "/"))
        return b"OPTIONS" if found is None else found.route.allowed.encode()
