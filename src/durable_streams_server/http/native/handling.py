"""`handles_event`: wraps a method that handles one event of a native connection, so that a failure ends only that connection."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

from .ending import Ending

Handler = TypeVar("Handler", bound=Ending)
Given = TypeVarTuple("Given")
R = TypeVar("R")


def handles_event(
    handle: Callable[[Handler, *Given], R],
) -> Callable[[Handler, *Given], R | None]:
    """Wraps a method that handles one event of a connection.

    After the method, the connection enters the phase that follows from its state. An exception in the method is logged, and aborts
    this connection but no other.
    """

    @functools.wraps(handle)
    def run(connection: Handler, *given: *Given) -> R | None:
        try:
            result = handle(connection, *given)
            connection._settle()
        except Exception as error:
            connection._fail(error)
            return None
        return result

    return run
