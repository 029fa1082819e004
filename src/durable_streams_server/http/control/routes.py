"""The table of the control routes. Dispatch, access control and the OpenAPI document all use this table, so none of them can miss a route.

found = find("subscriptions/s/claim")        # the path below `__ds/`
found.route is CLAIM, found.arguments == ("s",), found.route.access == "subscribe"
"""

from typing import Final, Literal, NamedTuple

import msgspec

#: What a client needs to use a route: `public` needs nothing. `worker` needs the token of a claim or a delivery, which the route checks.
#: `subscribe` and `admin` are verbs that a client's token must grant.
Access = Literal["public", "worker", "subscribe", "admin"]


class Route(msgspec.Struct, frozen=True):
    """One control route.

    Attributes:
        template: the path below `__ds/`. Parameters are in braces.
        methods: the methods of the route. A route with GET also has HEAD, and every route has OPTIONS.
        access: what a client needs to use the route.
    """

    template: str
    methods: tuple[str, ...]
    access: Access

    @property
    def allowed(self) -> str:
        """All methods of the route, as in an `Allow` header."""
        head = ["HEAD"] if "GET" in self.methods else []
        return ", ".join([*self.methods, *head, "OPTIONS"])


JWKS: Final = Route("jwks.json", ("GET",), "public")
OPENAPI: Final = Route("openapi.json", ("GET",), "public")
INFO: Final = Route("info", ("GET",), "admin")
STREAMS: Final = Route("streams", ("GET",), "admin")
SUBSCRIPTION: Final = Route("subscriptions/{id}", ("PUT", "GET", "DELETE"), "subscribe")
LINKS: Final = Route("subscriptions/{id}/streams", ("POST",), "subscribe")
LINK: Final = Route("subscriptions/{id}/streams/{path}", ("DELETE",), "subscribe")
CLAIM: Final = Route("subscriptions/{id}/claim", ("POST",), "subscribe")
CALLBACK: Final = Route("subscriptions/{id}/callback", ("POST",), "worker")
ACK: Final = Route("subscriptions/{id}/ack", ("POST",), "worker")
RELEASE: Final = Route("subscriptions/{id}/release", ("POST",), "worker")

#: Every control route.
ROUTES: Final = (
    JWKS,
    OPENAPI,
    INFO,
    STREAMS,
    SUBSCRIPTION,
    LINKS,
    LINK,
    CLAIM,
    CALLBACK,
    ACK,
    RELEASE,
)

_PLAIN: Final = {route.template: route for route in ROUTES if "/" not in route.template}
_OF_SUBSCRIPTION: Final = {
    route.template.removeprefix("subscriptions/{id}/"): route
    for route in ROUTES
    if route.template.count("/") == 2
}


class Found(NamedTuple):
    """A route, and the values of its parameters in order."""

    route: Route
    arguments: tuple[str, ...]


def find(below: str) -> Found | None:
    """Returns the route of a decoded path below `__ds/`, or None if no route has this path."""
    match below.split("/", 3):
        case [name] if name in _PLAIN:
            return Found(_PLAIN[name], ())
        case ["subscriptions", id_] if id_:
            return Found(SUBSCRIPTION, (id_,))
        case ["subscriptions", id_, name] if name in _OF_SUBSCRIPTION:
            return Found(_OF_SUBSCRIPTION[name], (id_,))
        case ["subscriptions", id_, "streams", path] if path:
            return Found(LINK, (id_, path))
    return None
