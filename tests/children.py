"""Runs a function in a forked child of the test's process, and says what it returned."""

import json
import os
import select
import signal
import warnings
from collections.abc import Callable
from typing import Any

TIMEOUT = 20.0  # seconds


def in_child(function: Callable[[], Any]) -> Any:
    """Returns what a function returns in a child, which must be JSON; an exception is `{"raised": [its class's name, its text]}`."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # this is about forks beside threads
        child = os.fork()
    if child == 0:
        try:
            os.write(writing, json.dumps(outcome(function)).encode())
        finally:
            os._exit(0)
    os.close(writing)
    try:
        if not select.select([reading], [], [], TIMEOUT)[0]:
            os.kill(child, signal.SIGKILL)
            raise AssertionError("the child hangs")
        return json.loads(os.read(reading, 1 << 16))
    finally:
        os.close(reading)
        os.waitpid(child, 0)


def outcome(function: Callable[[], Any]) -> Any:
    try:
        return function()
    except BaseException as error:
        return {"raised": [type(error).__name__, str(error)]}
