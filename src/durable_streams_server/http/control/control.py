"""Answers the control routes below `__ds` (PROTOCOL 6, 7). Routes match the decoded path; `routes.py` lists them."""

from __future__ import annotations

from ...errors import MethodNotAllowed, NotFound
from ...protocol.codings import refuse_coded
from ...streams.engine import Engine
from ...subscriptions.service import Service
from ..facts import ServerFacts
from ..gate.permit import Permit
from ..openapi.route import OpenApiRoute
from ..options import HandlerOptions
from ..request import Request
from ..targets import Targets
from .info import InfoRoute
from .listing import ListingRoute
from .requests import Actions, Answer, refuse_large
from .routes import Found, find
from .subscriptions import SubscriptionRoutes
from .workers import WorkerRoutes


class Control:
    """Answers control requests.

    Args:
        engine: Runs the streams.
        service: Runs the subscriptions.
        options: Limits on requests.
        targets: Has the stream root, and the path below which the routes are.
        facts: What the server tells about itself.
    """

    def __init__(
        self,
        engine: Engine,
        service: Service,
        options: HandlerOptions,
        targets: Targets,
        facts: ServerFacts,
    ) -> None:
        authenticator = options.access.authenticator
        is_static = _exists if authenticator is None else authenticator.knows
        self._prefix = targets.reserved + "/"
        self.actions: Actions = {
            **InfoRoute(engine, service, options, targets.root, facts).actions,
            **ListingRoute(engine).actions,
            **OpenApiRoute(targets.root).actions,
            **SubscriptionRoutes(
                service, targets.root, options.clients.max_subscriptions_per_token
            ).actions,
            **WorkerRoutes(service, targets.root, is_static).actions,
        }

    def find(self, path: str) -> Found:
        """Returns the route of a decoded path, with the values of its parameters.

        Raises:
            NotFound: RESERVED_PATH, because no route has this path.
        """
        found = find(path.removeprefix(self._prefix))
        if found is None:
            raise NotFound("this path is reserved for the server itself", "RESERVED_PATH")
        return found

    def handle(self, request: Request, path: str, permit: Permit) -> Answer:
        """Returns a ticket for the response to a request.

        Args:
            request: The request.
            path: The decoded path.
            permit: What the client may do. The routes of subscriptions check it, because their streams are not known from the head.

        Raises:
            NotFound: RESERVED_PATH, because no route has this path.
            MethodNotAllowed: The route does not have this method.
            StreamError: The body or the token is refused.
        """
        refuse_large(len(request.body))
        route, arguments = self.find(path)
        method = "GET" if request.method == "HEAD" else request.method
        if method not in route.methods:
            raise MethodNotAllowed(
                "the method is not known here", headers=[(b"allow", route.allowed.encode())]
            )
        act = self.actions[route, method]
        if route.access == "subscribe":
            return act(request, permit, *arguments)
        return act(request, *arguments)

    def check_head(self, request: Request) -> None:
        """Refuses a request by its head, before its body is received.

        Raises:
            TooLarge: The declared size of the body is above `MAX_CONTROL_BODY`.
            UnsupportedMedia: The body has a content coding.
        """
        refuse_large(request.declared)
        refuse_coded(request.headers)


def _exists(_: str) -> bool:
    """Returns True: without access control, no client needs a token that could be revoked."""
    return True
