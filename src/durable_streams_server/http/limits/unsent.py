"""Cuts a client that takes nothing of what was written to its socket, on the connections that uvicorn's own classes carry.

timer = UnsentTimer(seconds)
timer.begin(transport)    when the socket takes no more for now
timer.stop()              when it has taken what waited, or the connection is lost
"""

import asyncio


class UnsentTimer:
    """Looks at one socket's unsent bytes from time to time, while there are too many.

    Args:
        seconds: how long a client may take nothing.
    """

    __slots__ = ("_seconds", "_timer", "_transport", "_unsent")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None
        self._unsent = 0  # bytes that the client had not taken at the last look

    @property
    def is_running(self) -> bool:
        """Whether the client has bytes to take."""
        return self._timer is not None

    def begin(self, transport: asyncio.Transport) -> None:
        """Gives the client of a socket its time from now on."""
        self.stop()
        self._transport = transport
        self._look_again(transport)

    def stop(self) -> None:
        """Looks no more. It may be called at any time."""
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def look(self) -> None:
        """Cuts the client if it has taken nothing since the last look. Closing would wait for it, perhaps for ever."""
        transport = self._transport
        if transport is None:
            return
        if transport.get_write_buffer_size() < self._unsent:
            self._look_again(transport)
        else:
            self.stop()
            transport.abort()

    def _look_again(self, transport: asyncio.Transport) -> None:
        self._unsent = transport.get_write_buffer_size()
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self.look)
