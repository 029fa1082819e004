"""Responses as octets on a connection (RFC 9112): the head, chunks, and what the parser does not do for us."""

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
    """Returns a response's head.

    Args:
        response: its status and headers.
        framing: more header lines, each with its line end: the date, how long the body is, what becomes of the connection.
    """
    parts = _beginning(response)
    parts.append(framing)
    parts.append(b"\r\n")
    return b"".join(parts)


def beginning(response: Response) -> bytes:
    """Returns the status line and the headers, without those of the framing."""
    return b"".join(_beginning(response))


def _beginning(response: Response) -> list[bytes]:
    parts = [_LINES[response.status]]
    for name, value in response.headers:
        parts += (name, b": ", value, b"\r\n")
    parts.append(response.common.lines)
    return parts


def ending(response: Response, to_head: bool) -> bytes:
    """Returns what follows the other header lines: how long the body is, the end of the head, and the body."""
    body = b"" if to_head or response.status in _BODILESS else response.whole
    return length(response, to_head) + b"\r\n" + body


def length(response: Response, to_head: bool) -> bytes:
    """Returns the header line that says how long the body is, where there may be one."""
    if to_head or response.status in _BODILESS:
        return b""
    return b"content-length: %d\r\n" % response.size


def refusal(response: Response, date_line: bytes) -> bytes:
    """Returns the whole of a response after which the connection ends, whatever was asked."""
    return head(response, date_line + CLOSE + length(response, to_head=False)) + response.whole


def chunk(data: bytes) -> bytes:
    """Returns one chunk of a body of unknown length."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def date() -> bytes:
    """Returns the Date line for this second."""
    return b"date: %s\r\n" % formatdate(usegmt=True).encode("ascii")
