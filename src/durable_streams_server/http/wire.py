"""Writes responses as octets for an HTTP/1.1 connection (RFC 9112): heads, header lines and chunks."""

from email.utils import formatdate
from http import HTTPStatus
from typing import Final

from ..protocol.render import Response

_LINES: Final = {
    status.value: b"HTTP/1.1 %d %s\r\n" % (status.value, status.phrase.encode("ascii"))
    for status in HTTPStatus
}
_BODILESS: Final = frozenset({204, 304})
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK: Final = b"0\r\n\r\n"
KEEP_ALIVE: Final = b"connection: keep-alive\r\n"
CLOSE: Final = b"connection: close\r\n"
CHUNKED: Final = b"transfer-encoding: chunked\r\n"


def head(response: Response, framing: bytes) -> bytes:
    """Returns the head of a response, with the empty line at its end.

    Args:
        response: the response, whose status and headers are used.
        framing: further header lines, each with its line end, such as Date, Content-Length and Connection.
    """
    parts = _status_and_headers(response)
    parts.append(framing)
    parts.append(b"\r\n")
    return b"".join(parts)


def status_and_headers(response: Response) -> bytes:
    """Returns the status line and the header lines of a response, without those of its framing."""
    return b"".join(_status_and_headers(response))


def _status_and_headers(response: Response) -> list[bytes]:
    """Returns the status line and the header lines of a response in pieces."""
    parts = [_LINES[response.status]]
    for name, value in response.headers:
        parts += (name, b": ", value, b"\r\n")
    parts.append(response.common.lines)
    return parts


def length_and_body(response: Response, to_head: bool) -> bytes:
    """Returns the Content-Length line, the end of the head, and the body of a response.

    Args:
        response: the response.
        to_head: whether the request was a HEAD request, so that the response has no body.
    """
    body = b"" if to_head or response.status in _BODILESS else response.whole
    return length_line(response, to_head) + b"\r\n" + body


def length_line(response: Response, to_head: bool) -> bytes:
    """Returns the Content-Length line of a response, or an empty string if the response cannot have a body.

    Args:
        response: the response.
        to_head: whether the request was a HEAD request.
    """
    if to_head or response.status in _BODILESS:
        return b""
    return b"content-length: %d\r\n" % response.size


def refusal(response: Response, date: bytes) -> bytes:
    """Returns the octets of a whole response that closes its connection.

    Args:
        response: the response.
        date: the Date line, with its line end.
    """
    return head(response, date + CLOSE + length_line(response, to_head=False)) + response.whole


def chunk(data: bytes) -> bytes:
    """Returns `data` framed as one chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def date_line() -> bytes:
    """Returns the Date line for the current second, with its line end."""
    return b"date: %s\r\n" % formatdate(usegmt=True).encode("ascii")
