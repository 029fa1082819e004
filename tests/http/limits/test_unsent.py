"""The timer that cuts clients that read nothing."""

import asyncio
from typing import Any, cast

from durable_streams_server.http.limits.unsent import UnsentTimer


class Transport:
    """A transport with `unsent` bytes in its write buffer."""

    def __init__(self, unsent: int) -> None:
        self.unsent = unsent
        self.cut = asyncio.Event()

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def abort(self) -> None:
        self.cut.set()


async def test_client_that_reads_nothing_is_cut() -> None:
    timer, transport = UnsentTimer(0.01), Transport(10)
    timer.begin(cast(Any, transport))
    async with asyncio.timeout(5):
        await transport.cut.wait()
    assert not timer.is_running


async def test_client_that_reads_something_gets_more_time() -> None:
    timer, transport = UnsentTimer(60), Transport(10)
    timer.begin(cast(Any, transport))
    transport.unsent = 9
    timer.check()
    assert timer.is_running
    timer.check()
    assert (transport.cut.is_set(), timer.is_running) == (True, False)


async def test_stopped_timer_cuts_no_client() -> None:
    timer, transport = UnsentTimer(60), Transport(10)
    timer.begin(cast(Any, transport))
    timer.stop()
    timer.check()
    assert not transport.cut.is_set()
