"""Passes the reports of an observer on to several watchers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..request import Request
from .observer import Observer, Report, Watcher


class Watchers:
    """A watcher that passes each report on to other watchers.

    Args:
        watchers: The other watchers.
    """

    def __init__(self, watchers: Sequence[Watcher]) -> None:
        self._watchers = tuple(watchers)

    def finished(self, report: Report) -> None:
        """Passes a whole response on."""
        for watcher in self._watchers:
            watcher.finished(report)

    def live_began(self, request: Request, status: int, peer: str | None) -> Any:
        """Passes the beginning of an event stream on, and returns what each watcher keeps."""
        return [watcher.live_began(request, status, peer) for watcher in self._watchers]

    def live_ended(self, kept: Any, seconds: float, size: int) -> None:
        """Passes the end of an event stream on."""
        for watcher, own in zip(self._watchers, kept, strict=True):
            watcher.live_ended(own, seconds, size)


def watch(observer: Observer, watchers: Sequence[Watcher], *, names_requests: bool) -> None:
    """Adds watchers to an observer, which may have one already.

    Args:
        observer: The observer of an application.
        watchers: The new watchers. Without any, nothing changes.
        names_requests: Whether a watcher wants every request to have an id.
    """
    present = [] if observer.watcher is None else [observer.watcher]
    every = [*present, *watchers]
    if every:
        observer.watcher = every[0] if len(every) == 1 else Watchers(every)
    observer.names_requests = observer.names_requests or names_requests
