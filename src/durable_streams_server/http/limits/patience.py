"""How long a task may wait for the next part of a request body, over ASGI.

`asyncio.timeout` around each wait would cost a timer for every request. All waits here may last equally long, so whoever began
first is overdue first, and one timer looks at the first alone.
"""

import asyncio


class Patience:
    """Cancels tasks that have waited too long.

    A task says `wait` before each part, and `forget` when it has them all or gives up. When `asyncio.CancelledError` reaches
    it, `ran_out` says whether it came from here.

    Args:
        seconds: how long a task may wait for one part.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._due: dict[asyncio.Task[object], float] = {}  # in the order in which they are due
        self._overdue: dict[asyncio.Task[object], int] = {}  # how often each was cancelled before
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """How many tasks wait."""
        return len(self._due)

    def wait(self, task: "asyncio.Task[object]") -> None:
        """Gives a task the whole time from now on."""
        loop = task.get_loop()
        due = self._due
        if task in due:
            del due[task]  # or it would keep its place before those that are due sooner
        due[task] = at = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_at(at, self._look)

    def forget(self, task: "asyncio.Task[object]") -> None:
        """The task waits no more."""
        self._due.pop(task, None)
        if self._overdue:
            self._overdue.pop(task, None)

    def ran_out(self, task: "asyncio.Task[object]") -> bool:
        """Whether a cancellation that has reached `task` came from here, and from nobody else. It is undone then."""
        before = self._overdue.pop(task, None)
        return before is not None and task.uncancel() <= before

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        due = self._due
        while due:
            task, at = next(iter(due.items()))
            if at > now:
                self._timer = loop.call_at(at, self._look)
                return
            del due[task]
            self._overdue[task] = task.cancelling()
            task.cancel()
        self._timer = None
