"""Server-sent events (PROTOCOL 5.8): data events and the control event that follows each.

Clients strip one space after `data:`, so none is written, except before a line that itself begins with one: the token
" world" must not lose its space. A payload's line ends, CR, LF or both, become new `data:` lines, so that no payload can
write an event of its own.
"""

import base64
import codecs
from collections.abc import Iterator
from typing import Final

from .media import Kind
from .names import KIB, SSE_RETRY_MS

CONTENT_TYPE: Final = b"text/event-stream"
KEEP_ALIVE: Final = b": keep-alive\n\n"
RETRY: Final = b"retry:%d\n" % SSE_RETRY_MS  #: a field of the first event, before its id
_PIECE: Final = 24 * KIB  # what is handed to a socket at once; a page without line ends fits
#: Bytes of a page that `whole_event` makes into one piece: also if they are all line ends, each of which becomes six octets.
WHOLE: Final = 4 * KIB


def needs_base64(kind: Kind) -> bool:
    """Whether data events of a stream carry base64 (PROTOCOL 5.8)."""
    return kind is Kind.BINARY


def complete_text(data: bytes, at_end: bool) -> int:
    """Returns how many bytes of a text can be sent: an incomplete last character waits, unless no more can come."""
    if at_end or data.isascii():
        return len(data)
    return codecs.utf_8_decode(data, "replace", False)[1]


def data_event(kind: Kind, offset: str, data: bytes) -> Iterator[bytes]:
    """Yields one data event, in one piece, or in several when it is large.

    Args:
        kind: how the stream's bytes are encoded.
        offset: the name of the position after `data`, written as the event's id.
        data: wire bytes. Of text, whole characters; octets that are no UTF-8 are sent as U+FFFD.
    """
    head = b"id:%s\nevent: data\n" % offset.encode()
    pieces = _payload(*_parts(kind, data))
    yield head + next(pieces)
    yield from pieces


def whole_event(kind: Kind, offset: str, data: bytes, ending: bytes) -> bytes:
    """Returns one data event and the control event after it, as one piece.

    Args:
        kind: as `data_event` has it.
        offset: as `data_event` has it.
        data: wire bytes as `data_event` has them, `WHOLE` at most.
        ending: the rest of the control event, from `control_ending`.
    """
    name = offset.encode()
    before, payload, after = _parts(kind, data)
    return (
        b"id:%b\nevent: data\n%b%b%b\n\n"
        b'id:%b\nevent: control\ndata:{"streamNextOffset":"%b"%b'
        % (name, before, _lines(payload), after, name, name, ending)
    )


def _parts(kind: Kind, data: bytes) -> tuple[bytes, bytes, bytes]:
    """Returns what stands before an event's payload, the payload, and what stands after it."""
    if kind is Kind.JSON:
        return b"data:[", data[:-1], b"]"
    if kind is Kind.BINARY:
        return b"data:", base64.b64encode(data), b""
    if not data.isascii():
        data = data.decode("utf-8", "replace").encode("utf-8")
    return b"data:" + _space(data[:1]), data, b""


def _payload(before: bytes, data: bytes, after: bytes) -> Iterator[bytes]:
    """Yields the data lines of an event, and the blank line after it, in pieces of bounded size."""
    size = len(data) + 5 * (data.count(b"\n") + data.count(b"\r"))  # a line end becomes six octets
    if size <= _PIECE:
        yield before + _lines(data) + after + b"\n\n"
        return
    step = max(1, _PIECE * len(data) // size)
    yield before
    begin, end = 0, len(data)
    while begin < end:
        cut = min(begin + step, end)
        while cut < end and data[cut - 1] in b"\r\n":
            cut += 1  # a line end and what follows it stay together
        yield _lines(data[begin:cut])
        begin = cut
    yield after + b"\n\n"


def control_event(offset: str, cursor: str | None, up_to_date: bool, closed: bool) -> bytes:
    """Returns one control event. A closed one has no cursor: nobody reconnects (PROTOCOL 5.8)."""
    name = offset.encode()
    ending = control_ending(cursor, up_to_date, closed)
    return b'id:%s\nevent: control\ndata:{"streamNextOffset":"%s"%s' % (name, name, ending)


def control_ending(cursor: str | None, up_to_date: bool, closed: bool) -> bytes:
    """Returns what follows the offset in a control event: the same for every stream at one moment."""
    if closed:
        return b',"upToDate":true,"streamClosed":true}\n\n'
    text = b',"streamCursor":"%s"' % (cursor or "").encode()
    return text + (b',"upToDate":true}\n\n' if up_to_date else b"}\n\n")


def _lines(data: bytes) -> bytes:
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if b"\n" not in data:
        return data
    return data.replace(b"\n", b"\ndata:").replace(b"\ndata: ", b"\ndata:  ")


def _space(first: bytes) -> bytes:
    return b" " if first == b" " else b""
