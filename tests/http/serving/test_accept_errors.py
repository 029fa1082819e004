"""Log messages about failed accepts."""

import asyncio
from typing import Any

import pytest

from durable_streams_server.http.serving.accept_errors import AcceptErrors
from tests.http.limits.test_log_rate import Clock
from tests.http.socket_driver import logged_warnings


async def test_failed_accepts_are_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    handler = AcceptErrors(clock)
    context: dict[str, Any] = {
        "message": "socket.accept() out of system resource",
        "exception": OSError(24, "Too many open files"),
    }
    loop = asyncio.get_running_loop()
    for _ in range(1000):
        handler(loop, context)
    assert logged_warnings(caplog) == ["new connections wait: [Errno 24] Too many open files"]
    clock.now += 60
    handler(loop, context)
    assert len(logged_warnings(caplog)) == 2
    handler(loop, {"message": "something else"})
    assert logged_warnings(caplog)[2] == "something else"
