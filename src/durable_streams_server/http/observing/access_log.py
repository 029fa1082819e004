"""`AccessLog`: writes a record about each response. It is off by default, because a record takes longer than a small read."""

from __future__ import annotations

import logging
from typing import Any, Final

from ...log import access as _access
from ..request import Request
from .described import describe
from .observer import Report
from .routes import ROUTES, SSE

#: The fields of a record, in their order. Those without a value are left out.
FIELDS: Final = (
    "method",
    "path",
    "query",
    "client",
    "request_id",
    "subject",
    "user_agent",
    "route",
    "status",
    "duration_ms",
    "bytes",
)


class AccessLog:
    """A watcher that logs each response at its end, live reads included."""

    def __init__(self) -> None:
        _access.setLevel(logging.INFO)

    def finished(self, report: Report) -> None:
        """Logs a whole response."""
        fields = describe(report.request, report.peer)
        self._log(fields, report.route, report.status, report.seconds, report.size)

    def live_began(self, request: Request, status: int, peer: str | None) -> Any:
        """Describes the request of an event stream for the record at its end."""
        return describe(request, peer), status

    def live_ended(self, kept: Any, seconds: float, size: int) -> None:
        """Logs an event stream that has ended."""
        fields, status = kept
        self._log(fields, SSE, status, seconds, size)

    def _log(
        self, fields: dict[str, Any], route: int, status: int, seconds: float, size: int
    ) -> None:
        fields["route"] = ROUTES[route]
        fields["status"] = status
        fields["duration_ms"] = round(seconds * 1000, 3)
        fields["bytes"] = size
        _access.info("answered", extra={"fields": fields})
