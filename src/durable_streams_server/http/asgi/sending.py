"""Whole responses over ASGI, and who is being sent a large one."""

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

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]

#: Bytes of a page that the host's server is given at once. It is given the one object that all readers of the page share.
_WHOLE: Final = 4 * MIB
#: Bytes of a larger page that it is given at once. Each slice is a copy for one client.
_SLICE: Final = 256 * KIB
_STEP: Final = (
    MIB  # bytes that it is given in one turn of the loop, if the client takes them that fast
)


class Taker:
    """The client of one ASGI request, made in the request's task.

    Attributes:
        taken: bytes that the host's server has taken for the client.
    """

    def __init__(self) -> None:
        self.taken = 0
        self._task = asyncio.current_task()
        self._cancelled_before: int | None = None

    def cut(self) -> None:
        """Ends the request; the host's server closes the connection, since the response is not complete."""
        if self._task is not None:
            self._cancelled_before = self._task.cancelling()
            self._task.cancel()

    def was_cut(self) -> bool:
        """Whether a cancellation that has reached the task came from `cut`, and from nobody else. It is undone then."""
        before, self._cancelled_before = self._cancelled_before, None
        return before is not None and self._task is not None and self._task.uncancel() <= before


def start_message(response: Response, headers: Sequence[Header]) -> Message:
    """Returns what begins a response."""
    return {"type": "http.response.start", "status": response.status, "headers": headers}


async def send_response(
    request: Request, response: Response, send: Send, outgoing: Outgoing, turns: Turns
) -> None:
    """Sends a whole response. A client that has left, or is cut, is no error."""
    headers = response.all_headers
    is_sent = request.method != "HEAD"
    if is_sent and response.status not in (204, 304):
        headers.append((b"content-length", b"%d" % response.size))
    try:
        await send(start_message(response, headers))
        if is_sent and response.holder is not None:
            await _send_large(response, send, outgoing, turns)
        else:
            body = response.whole if is_sent else b""
            await send({"type": "http.response.body", "body": body})
    except OSError:
        return  # ASGI 2.4


async def _send_large(response: Response, send: Send, outgoing: Outgoing, turns: Turns) -> None:
    """Sends a large page in slices, as the client takes them, some in each turn: a fast client would get them all in one."""
    taker = Taker()
    outgoing.hold(taker, response.holder)
    begun = 0  # bytes in this turn
    try:
        for part in _slices(response):
            if begun >= _STEP:
                begun = 0
                await turns.wait_turn()
            await send({"type": "http.response.body", "body": part, "more_body": True})
            taker.taken += len(part)
            begun += len(part)
        await send({"type": "http.response.body", "body": b""})
    except asyncio.CancelledError:
        if not taker.was_cut():
            raise
    finally:
        outgoing.release(taker)


def _slices(response: Response) -> Iterator[bytes]:
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
