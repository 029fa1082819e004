"""What the control routes share: the limits and the parsing of their requests, and their responses."""

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from ...errors import BadRequest, TooLarge, Unauthorized
from ...protocol.codings import refuse_coded
from ...protocol.media import Kind, parse_media_type
from ...protocol.names import CONTENT_TYPE
from ...protocol.render import Response
from ...protocol.units import MIB
from ...storage.ticket import Ticket
from ..request import Request
from .routes import Route

#: Maximum bytes of a control request's body: enough for ten thousand paths of average length, or as many acks.
MAX_CONTROL_BODY: Final = 4 * MIB
_NO_STORE: Final = (b"cache-control", b"no-store")
_JSON: Final = (CONTENT_TYPE, b"application/json")

Answer = Ticket[Response]
#: Answers a request for one route and method. Its arguments are the request, the permit if the route needs `subscribe`, and the values of
#: the route's parameters.
Action = Callable[..., Answer]
Actions = Mapping[tuple[Route, str], Action]


def refuse_large(size: int | None) -> None:
    """Refuses a body of more than `MAX_CONTROL_BODY` bytes.

    Raises:
        TooLarge: The body is too large.
    """
    if size is not None and size > MAX_CONTROL_BODY:
        raise TooLarge(f"the body is larger than {MAX_CONTROL_BODY} bytes")


def json_body(request: Request) -> bytes:
    """Returns the body of a request if its Content-Type is JSON. HTML forms on other sites cannot send such requests.

    Raises:
        BadRequest: MISSING_CONTENT_TYPE or INVALID_CONTENT_TYPE.
        UnsupportedMedia: The body has a content coding.
    """
    refuse_coded(request.headers)
    declared = request.headers.get(CONTENT_TYPE)
    if declared is None:
        raise BadRequest("the body needs a Content-Type", "MISSING_CONTENT_TYPE")
    if parse_media_type(declared.decode("latin-1")).kind is not Kind.JSON:
        raise BadRequest("the body must be application/json", "INVALID_CONTENT_TYPE")
    return request.body


def bearer_token(request: Request) -> str:
    """Returns the bearer token of a request.

    Raises:
        Unauthorized: The request has none.
    """
    scheme, _, token = request.headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthorized("a bearer token is needed here")
    return token.strip()


def document(status: int, content: object) -> Answer:
    """Returns a done ticket for a response with a JSON document, which is a value that msgspec can encode."""
    return Ticket.of(Response(status, [_JSON, _NO_STORE], msgspec.json.encode(content)))


def no_content(_: object) -> Answer:
    """Returns a done ticket for a 204 response."""
    return Ticket.of(Response(204, [_NO_STORE]))
