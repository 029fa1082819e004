"""Rules about the head of an HTTP/1 request that the parser llhttp leaves to its caller."""

from ...errors import BadRequest
from ...protocol.names import CONTENT_LENGTH, TRANSFER_ENCODING
from .. import wire
from ..request import Request


def check_old_version(version: str, headers: dict[bytes, bytes]) -> None:
    """Refuses an HTTP version that is neither 1.1 nor 1.0, and an HTTP/1.0 request with a transfer coding.

    Args:
        version: the request's HTTP version, which is not 1.1.
        headers: the request's headers.

    Raises:
        BadRequest: INVALID_HTTP.
    """
    if version != "1.0":
        raise BadRequest("the request is not of HTTP/1.1 or 1.0", "INVALID_HTTP")
    if TRANSFER_ENCODING in headers:  # the framing is faulty (RFC 9112, 6.1)
        raise BadRequest("HTTP/1.0 has no transfer codings", "INVALID_HTTP")


def head_with_same_framing(headers: dict[bytes, bytes], keep_alive: bool) -> bytes:
    """Returns the head of a new POST request, whose only headers are copies of the framing headers of another request."""
    lines = [
        b"%b: %b\r\n" % (name, headers[name])
        for name in (CONTENT_LENGTH, TRANSFER_ENCODING)
        if name in headers
    ]
    if not keep_alive:
        lines.append(wire.CLOSE)
    return b"POST / HTTP/1.1\r\n%b\r\n" % b"".join(lines)


def expects_continue(request: Request) -> bool:
    """Returns whether the client waits for `100 Continue` before it sends the body (RFC 9110, 10.1.1).

    The request must have an `Expect` header.
    """
    headers = request.headers
    has_body = request.declared or TRANSFER_ENCODING in headers
    return bool(has_body) and headers[b"expect"].lower() == b"100-continue"
