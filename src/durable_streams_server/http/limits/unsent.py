"""Aborts a connection whose client does not read. Connections that are built on uvicorn's own classes use this timer."""

import asyncio


class UnsentTimer:
    """Checks the write buffer of one socket from time to time, and aborts its connection if the client has read nothing.

    The connection calls `begin` when its write buffer is full, and `stop` when the buffer is empty or the connection is lost.

    Args:
        seconds: how long a client may read nothing.
    """

    __slots__ = ("_seconds", "_timer", "_transport", "_unsent")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None
        self._unsent = 0  # bytes in the write buffer at the last check

    @property
    def is_running(self) -> bool:
        """Whether the timer runs."""
        return self._timer is not None

    def begin(self, transport: asyncio.Transport) -> None:
        """Starts or restarts the timer for the socket of `transport`."""
        self.stop()
        self._transport = transport
        self._schedule_check(transport)

    def stop(self) -> None:
        """Stops the timer, if it runs."""
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def check(self) -> None:
        """Aborts the connection if the client has read nothing since the last check.

        The connection is not closed normally, because a normal close would wait until the client has read all bytes.
        """
        transport = self._transport
        if transport is None:
            return
        if transport.get_write_buffer_size() < self._unsent:
            self._schedule_check(transport)
        else:
            self.stop()
            transport.abort()

    def _schedule_check(self, transport: asyncio.Transport) -> None:
        """Notes the size of the write buffer and schedules the next check."""
        self._unsent = transport.get_write_buffer_size()
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self.check)
