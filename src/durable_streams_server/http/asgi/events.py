"""Sends event streams over ASGI, no faster than their clients read, and ends them properly when the host stops."""

from __future__ import annotations

import asyncio
from typing import Final

from ...streams.event_stream import END, PULLS, WAIT
from ...streams.turns import Line, Turns
from ..limits.outgoing import Outgoing
from ..observing.observer import LiveRead
from ..replies import Live
from .receiving import ClientGone, Receive
from .sending import Message, Send, Taker, start_message

_SEND_GRACE: Final = 30.0  # seconds past `max_age` that the last bytes may take
#: Seconds that the host may take to send the last bytes of a cancelled read.
FAREWELL_GRACE: Final = 0.2


class _Client:
    """The client of one event stream.

    Attributes:
        gone: Whether the client has left, or the host has failed and would not report that the client leaves.
    """

    __slots__ = ("_has_left", "_ready", "_send", "gone")

    def __init__(self, send: Send, ready: asyncio.Event) -> None:
        self._send = send
        self._ready = ready
        self._has_left = False  # true only if the host has reported a disconnect
        self.gone = False

    async def watch(self, receive: Receive) -> None:
        """Waits until the client leaves, and then wakes the sender."""
        try:
            while (await receive())["type"] != "http.disconnect":
                pass
            self._has_left = True
        finally:  # also if the host fails, because then nobody would notice the client leaving
            self.gone = True
            self._ready.set()

    async def send(self, message: Message) -> None:
        """Sends a message.

        Raises:
            ClientGone: The client has left.
            Exception: The host failed for another reason.
        """
        try:
            await self._send(message)
        except Exception as error:
            if self._has_left or isinstance(error, OSError):  # ASGI 2.4
                raise ClientGone from None
            raise


async def send_events(
    live: Live,
    counted: LiveRead,
    ready: asyncio.Event,
    receive: Receive,
    send: Send,
    outgoing: Outgoing,
    turns: Turns,
    max_age: float,
) -> None:
    """Sends an event stream until the stream ends, the client leaves or reads too slowly, or the host cancels the request.

    Args:
        live: The response, whose events this function closes.
        counted: Counts the bytes that are sent.
        ready: An event that is set when there is something to send.
        max_age: Seconds after which the event stream ends by itself.
    """
    events, client = live.events, _Client(send, ready)
    pull, give = events.pull, client.send
    taker, pulls = Taker(), 0
    watcher = asyncio.create_task(client.watch(receive))
    late = asyncio.timeout(max_age + _SEND_GRACE)
    try:
        async with late:
            await give(start_message(live.head, live.head.all_headers))
            while not client.gone:
                ready.clear()
                chunk = pull()
                if chunk is WAIT:
                    await ready.wait()
                    if not turns.admits(is_read=True):
                        await turns.wait_turn(Line.URGENT)
                elif chunk is END:
                    await give({"type": "http.response.body", "body": b""})
                    return
                else:
                    if events.holder is not None:
                        outgoing.hold(taker, events.holder)
                    await give({"type": "http.response.body", "body": chunk, "more_body": True})
                    counted.add(len(chunk))
                    taker.taken += len(chunk)
                    pulls += 1
                    if pulls % PULLS == 0:
                        await turns.wait_turn()
    except ClientGone:
        return  # a client that leaves is no error
    except TimeoutError:
        if not late.expired():  # the store raised the TimeoutError
            raise
    except asyncio.CancelledError:
        if taker.was_cut():
            return
        if client.gone or not await _say_farewell(events.farewell(), send):
            raise
        # The response is complete. If this function raised the cancellation, the host would log it once for each reader.
    finally:
        watcher.cancel()
        outgoing.release(taker)
        events.close()


async def _say_farewell(last: bytes, send: Send) -> bool:
    """Ends a cancelled event stream with a control event and a proper end of body. Returns whether the host could send them."""
    try:
        async with asyncio.timeout(FAREWELL_GRACE):
            await send({"type": "http.response.body", "body": last, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
    except OSError:
        return False  # the client has left, or does not read (TimeoutError)
    return True
