"""`SlowLog`: logs the requests that took long, with what they waited for.

Each request is timed only at its beginning and its end. Other times are needed only for slow requests. The lane knows the waits before the
handler, and the store remembers its own slow work (`storage/slow_work.py`). Live reads wait by design, so they are not slow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ...log import log as _log
from ...storage.slow_work import SlowWork
from ..request import Request
from .described import describe
from .observer import Report
from .routes import LIVE, ROUTES

#: The fields of a record after those that describe the request, in their order.
FIELDS: Final = (
    "route",
    "status",
    "seconds",
    "body_wait",
    "queue_wait",
    "answer_wait",
    "meanwhile",
)

#: Maximum number of records in one interval. If a disk stalls, every request is slow, and the log must not get a line for each.
_MOST: Final = 20
_INTERVAL: Final = 60.0  # seconds


class SlowLog:
    """A watcher that logs slow requests.

    Args:
        limit: Seconds above which a request is slow.
        slow_work: Returns what the present store remembers.
        clock: Returns monotonic time in seconds.
    """

    def __init__(
        self, limit: float, slow_work: Callable[[], SlowWork], clock: Callable[[], float]
    ) -> None:
        self._limit = limit
        self._slow_work = slow_work
        self._clock = clock
        self._since = 0.0
        self._logged = 0
        self._unlogged = 0

    def finished(self, report: Report) -> None:
        """Logs a response that took long."""
        request, route, status, seconds, _, peer, waits = report
        body_wait, queue_wait = waits.body_wait, waits.queue_wait
        if seconds + body_wait <= self._limit or route in LIVE:
            return
        if not self._may_log():
            self._unlogged += 1
            return
        slow_work = self._slow_work()
        now = slow_work.clock()
        fields: dict[str, Any] = describe(request, peer)
        fields["route"] = ROUTES[route]
        fields["status"] = status
        fields["seconds"] = round(seconds + body_wait, 3)
        fields["body_wait"] = round(body_wait, 3)
        fields["queue_wait"] = round(queue_wait, 3)
        fields["answer_wait"] = round(seconds - queue_wait, 3)
        meanwhile = slow_work.between(now - seconds, now)
        fields["meanwhile"] = {kind: round(spent, 3) for kind, spent in meanwhile.items()}
        if self._unlogged:
            fields["unlogged"], self._unlogged = self._unlogged, 0
        _log.warning("a request took %.1f s", seconds + body_wait, extra={"fields": fields})

    def live_began(self, request: Request, status: int, peer: str | None) -> Any:
        """Does nothing, because live reads are not slow."""

    def live_ended(self, kept: Any, seconds: float, size: int) -> None:
        """Does nothing, because live reads are not slow."""

    def _may_log(self) -> bool:
        """Counts a record, and returns whether it may be logged."""
        now = self._clock()
        if not self._logged or now - self._since >= _INTERVAL:
            self._since, self._logged = now, 0
        self._logged += 1
        return self._logged <= _MOST
