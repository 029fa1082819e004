"""Turns the exception that a request failed with into a response, and logs it if it was not expected."""

from ..errors import StreamError, forget_frames
from ..log import log as _log
from ..protocol import render
from ..protocol.names import X_REQUEST_ID
from ..protocol.render import Response
from .request import Request
from .request_ids import id_of


def failure_response(request: Request, error: Exception) -> Response:
    """Returns the response to a request that failed, with the id of the request but without the headers that every response has.

    An unexpected error is logged with the same id. The traceback of the error is dropped, because its frames would keep the body of the
    request in memory.
    """
    request_id = id_of(request)
    if not isinstance(error, StreamError):
        fields = {"request_id": request_id.decode()}
        _log.error("a request failed", exc_info=error, extra={"fields": fields})
        forget_frames(error)
        error = StreamError("the server failed")
    forget_frames(error)
    response = render.error(error)
    response.headers.append((X_REQUEST_ID, request_id))
    return response
