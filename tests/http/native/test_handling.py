"""What a native connection does after it has handled an event, or has failed to."""

from typing import Any, cast

import pytest

from durable_streams_server.http.native.ending import Ending
from durable_streams_server.http.native.handling import handles_event
from tests.http.socket_driver import logged_warnings


class Connection:
    """Records what the wrapped methods call."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def _settle(self) -> None:
        self.calls.append("settle")

    def _fail(self, error: Exception) -> None:
        self.calls.append(error)


class Handler(Ending):
    """A connection with two methods that handle events."""

    @handles_event
    def answer(self, number: int) -> int:
        """Returns a number."""
        return number + 1

    @handles_event
    def break_off(self) -> None:
        raise KeyError("x")


def test_connection_enters_its_phase_after_an_event() -> None:
    connection = Connection()
    assert Handler.answer(cast(Handler, connection), 1) == 2
    assert connection.calls == ["settle"]
    assert Handler.answer.__doc__ == "Returns a number."


def test_exception_ends_the_connection_and_is_not_raised(caplog: pytest.LogCaptureFixture) -> None:
    connection = Connection()
    assert Handler.break_off(cast(Handler, connection)) is None
    (error,) = connection.calls
    assert isinstance(error, KeyError)
    assert logged_warnings(caplog) == []  # `_fail` logs it
