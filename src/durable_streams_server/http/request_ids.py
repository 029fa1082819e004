"""Gives requests ids, so that the log lines of a request can be found. A client or a proxy may send an id in `X-Request-Id`.

The response has a valid id that came with the request. Otherwise the server makes an id for an error, and for every response if its observer
wants every request named. Other responses have no id.
"""

import re
import secrets
from collections.abc import Callable
from typing import Final

import msgspec

from ..errors import Header
from ..protocol.names import X_REQUEST_ID
from ..protocol.render import Response
from .request import Request

#: An id that is safe in a header, in a log and in a URL. Any other id is replaced.
_VALID: Final = re.compile(rb"[A-Za-z0-9._~:/+=@-]{1,128}")
#: The smallest status of an error.
_ERROR: Final = 400
_RANDOM_BYTES: Final = 12


def new_id() -> bytes:
    """Returns a new random id."""
    return secrets.token_hex(_RANDOM_BYTES).encode()


def given_id(request: Request) -> bytes:
    """Returns the id of a request: the one that the server has given it, or else the valid one that the client sent, or an empty id."""
    if request.id:
        return request.id
    sent = request.headers.get(X_REQUEST_ID)
    if sent is None or X_REQUEST_ID in request.repeated or not _VALID.fullmatch(sent):
        return b""
    return sent


def named(request: Request, make: Callable[[], bytes] = new_id) -> Request:
    """Returns a copy of a request with its id: the client's, or a new one. The original may be shared by requests with the same head."""
    return msgspec.structs.replace(request, id=id_of(request, make))


def id_of(request: Request, make: Callable[[], bytes] = new_id) -> bytes:
    """Returns the id of a request, or a new one if it has none. Call this once, because a new id differs each time."""
    return given_id(request) or make()


def may_need_id(request: Request, response: Response) -> bool:
    """Returns whether `id_to_send` may return an id. The native lane has this condition in its own code."""
    return response.status >= _ERROR or bool(request.id) or X_REQUEST_ID in request.headers


def id_to_send(request: Request, response: Response) -> bytes:
    """Returns the id to add to a response, or an empty id if the response has one already, or needs none."""
    if any(header == X_REQUEST_ID for header, _ in response.headers):
        return b""
    return id_of(request) if response.status >= _ERROR else given_id(request)


def line_to_send(request: Request, response: Response) -> bytes:
    """Returns the line of HTTP/1.1 to add to the head of a response, or an empty text."""
    found = id_to_send(request, response)
    return b"%b: %b\r\n" % (X_REQUEST_ID, found) if found else b""


def headers_to_send(request: Request, response: Response) -> list[Header]:
    """Returns the header to add to a response as a list, which is empty if none is to be added."""
    if not may_need_id(request, response):
        return []
    found = id_to_send(request, response)
    return [(X_REQUEST_ID, found)] if found else []
