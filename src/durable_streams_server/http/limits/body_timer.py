"""Limits how long an ASGI task may wait for the next part of a request body.

`asyncio.timeout` around each wait would start a timer for every request. All waits here have the same limit, so the task that has
waited longest times out first, and one timer for that task is enough.
"""

import asyncio


class BodyTimer:
    """Cancels tasks that wait too long for a part of a body.

    A task calls `start` before it waits for a part, and `stop` when it has the whole body or gives up. When
    `asyncio.CancelledError` reaches the task, `timed_out` says whether this timer was the cause.

    Args:
        seconds: how long a task may wait for one part.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._due: dict[
            asyncio.Task[object], float
        ] = {}  # tasks and their deadlines, in order of deadlines
        self._timed_out: dict[
            asyncio.Task[object], int
        ] = {}  # cancelled tasks, and how often each had been cancelled before
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """Returns how many tasks are waiting."""
        return len(self._due)

    def start(self, task: "asyncio.Task[object]") -> None:
        """Starts or restarts the timeout of a task."""
        loop = task.get_loop()
        due = self._due
        if task in due:
            del due[task]  # so that the task moves to the end
        due[task] = at = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_at(at, self._cancel_due_tasks)

    def stop(self, task: "asyncio.Task[object]") -> None:
        """Stops the timeout of a task, if it has one."""
        self._due.pop(task, None)
        if self._timed_out:
            self._timed_out.pop(task, None)

    def timed_out(self, task: "asyncio.Task[object]") -> bool:
        """Returns whether this timer alone cancelled a task that has received `CancelledError`. If so, uncancels the task."""
        before = self._timed_out.pop(task, None)
        return before is not None and task.uncancel() <= before

    def _cancel_due_tasks(self) -> None:
        """Cancels every task whose deadline has passed, and schedules the next call."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        due = self._due
        while due:
            task, at = next(iter(due.items()))
            if at > now:
                self._timer = loop.call_at(at, self._cancel_due_tasks)
                return
            del due[task]
            self._timed_out[task] = task.cancelling()
            task.cancel()
        self._timer = None
