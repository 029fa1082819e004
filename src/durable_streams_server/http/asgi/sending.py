"""Sends complete responses over ASGI. Large pages are sent in slices, so that one page neither delays other requests nor waits in memory for a slow client."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, MutableMapping, Sequence
from typing import Any, Final

from ...errors import Header
from ...protocol.render import Response
from ...protocol.units import KIB, MIB
from ...streams.large import Run
from ...streams.turns import Turns
from ..limits.outgoing import Outgoing
from ..request import Request
from ..request_ids import headers_to_send

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]

#: Maximum bytes of a page that is sent in one message, as one bytes object that all readers of the page share.
_WHOLE: Final = 4 * MIB
#: Bytes of each message with a part of a larger page. Each part is a copy for one client.
_SLICE: Final = 256 * KIB
#: Bytes of a page that are sent in one turn of the event loop, if the client reads that fast.
_STEP: Final = MIB


class Taker:
    """The client of one ASGI request, which `Outgoing` may cut. Must be created in the request's task.

    Attributes:
        taken: Bytes that the host server has accepted for the client.
    """

    def __init__(self) -> None:
        self.taken = 0
        self._task = asyncio.current_task()
        self._cancelled_before: int | None = None

    def cut(self) -> None:
        """Cancels the request. The host server then closes the connection, because the response is not complete."""
        if self._task is not None:
            self._cancelled_before = self._task.cancelling()
            self._task.cancel()

    def was_cut(self) -> bool:
        """Returns whether `cut`, and nobody else, has cancelled the task. If so, undoes the cancellation, so that the task can continue."""
        before, self._cancelled_before = self._cancelled_before, None
        return before is not None and self._task is not None and self._task.uncancel() <= before


def start_message(response: Response, headers: Sequence[Header]) -> Message:
    """Returns the ASGI message that starts a response."""
    return {"type": "http.response.start", "status": response.status, "headers": headers}


async def send_response(
    request: Request, response: Response, send: Send, outgoing: Outgoing, turns: Turns
) -> int:
    """Sends a complete response, and returns how many bytes of its body were sent. Returns early if the client has left or is cut."""
    headers = response.all_headers + headers_to_send(request, response)
    is_sent = request.method != "HEAD"
    if is_sent and response.status not in (204, 304):
        headers.append((b"content-length", b"%d" % response.size))
    try:
        await send(start_message(response, headers))
        if is_sent and response.holder is not None:
            return await _send_large(response, send, outgoing, turns)
        body = response.whole if is_sent else b""
        await send({"type": "http.response.body", "body": body})
    except OSError:
        return 0  # ASGI 2.4
    return len(body)


async def _send_large(response: Response, send: Send, outgoing: Outgoing, turns: Turns) -> int:
    """Sends a large page in slices, at most `_STEP` bytes per turn of the event loop, and no faster than the client reads.

    Returns how many bytes were sent.
    """
    taker = Taker()
    outgoing.hold(taker, response.holder)
    begun = 0  # bytes sent in this turn
    try:
        for part in _slices(response):
            if begun >= _STEP:
                begun = 0
                await turns.wait_turn()
            await send({"type": "http.response.body", "body": part, "more_body": True})
            taker.taken += len(part)
            begun += len(part)
        await send({"type": "http.response.body", "body": b""})
    except OSError:
        pass  # ASGI 2.4
    except asyncio.CancelledError:
        if not taker.was_cut():
            raise
    finally:
        outgoing.release(taker)
    return taker.taken


def _slices(response: Response) -> Iterator[bytes]:
    """Yields the body of a response in the parts to send: as one shared object up to `_WHOLE` bytes, or in copied slices."""
    whole = response.body if not response.array else None
    if whole is None and response.size <= _WHOLE and isinstance(response.holder, Run):
        whole = response.holder.encoded(response.size, lambda: response.whole)
    if whole is not None and len(whole) <= _WHOLE:
        yield whole
        return
    for part in response.parts:
        view = memoryview(part)
        for begin in range(0, len(view), _SLICE):
            yield bytes(view[begin : begin + _SLICE])


def close_after_last(response: Response, scope: MutableMapping[str, Any]) -> None:
    """Adds `Connection: close` to a response that is the last of its connection, except over HTTP/2, which has no such header."""
    if response.is_last and scope.get("http_version", "1.1") < "2":
        response.headers.append((b"connection", b"close"))
