"""Threads, event loops in threads of their own, and pauses, for tests of calls from several threads."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")
TIMEOUT = 20  #: Seconds before a test gives up waiting for another thread.


def wait_until(condition: Callable[[], bool]) -> None:
    """Waits until another thread has made a condition true. Polls, because a thread that is blocked in a call cannot report that it is."""
    end = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < end, "the condition never becomes true"
        time.sleep(0.0005)


class InThread:
    """Runs a function in a new thread."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self._value: Any = None
        self._error: BaseException | None = None
        self.ident: int | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self.ident = threading.get_ident()
        try:
            self._value = self._function()
        except BaseException as error:
            self._error = error

    def result(self) -> Any:
        """Waits until the function has ended. Returns its result, or raises its error."""
        self._thread.join(TIMEOUT)
        assert not self._thread.is_alive(), "the thread never ends"
        if self._error is not None:
            raise self._error
        return self._value


class Pause:
    """A function that blocks the calling thread until the test calls `release`."""

    def __init__(self) -> None:
        self._reached = threading.Event()
        self._released = threading.Event()

    def __call__(self) -> None:
        self._reached.set()
        assert self._released.wait(TIMEOUT)

    def wait_until_reached(self) -> None:
        """Waits until a thread is blocked in this pause."""
        assert self._reached.wait(TIMEOUT)

    def release(self) -> None:
        """Lets the blocked thread continue."""
        self._released.set()


class LoopThread:
    """An event loop that runs in a new thread until `stop`."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = InThread(self.loop.run_forever)
        wait_until(self.loop.is_running)

    def call(self, function: Callable[[], T]) -> T:
        """Calls a function on the loop and returns its result."""

        async def run() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(TIMEOUT)

    def start_call(self, function: Callable[[], Any]) -> InThread:
        """Calls a function on the loop without waiting for it; `result` of the returned object waits."""
        return InThread(lambda: self.call(function))

    @property
    def ident(self) -> int:
        """The identifier of the loop's thread."""
        return self.call(threading.get_ident)

    def stop(self, *, close: bool = True) -> None:
        """Stops the loop without detaching the store that the loop owns."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.join()
        if close:
            self.loop.close()

    def join(self) -> None:
        """Waits until the loop has stopped."""
        self._thread.result()


@contextmanager
def running_loop_thread() -> Iterator[LoopThread]:
    """Yields an event loop in a new thread, and stops and closes it in the end."""
    thread = LoopThread()
    yield thread
    if thread.loop.is_running():
        thread.stop()
    thread.loop.close()
