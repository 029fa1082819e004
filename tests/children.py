"""Runs functions in forked child processes of the test."""

import json
import os
import select
import signal
import warnings
from collections.abc import Callable
from typing import Any

TIMEOUT = 20.0  # seconds


def in_child(function: Callable[[], Any]) -> Any:
    """Calls a function in a forked child process and returns the outcome, which must be JSON."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # Python warns of forks in processes with threads
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
    """Calls a function and returns its result, or `{"raised": [class name, message]}` if it raises an exception."""
    try:
        return function()
    except BaseException as error:
        return {"raised": [type(error).__name__, str(error)]}
