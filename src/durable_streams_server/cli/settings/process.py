"""Settings of the process: its HTTP lane and its log."""

import dataclasses
from typing import Literal, TypeAlias

from ...http.serving.server import HttpLane
from .definition import Topic, setting

LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Process(Topic):
    """The process: its HTTP lane and its log."""

    http: HttpLane = setting("native", "Answer straight on the socket, or through uvicorn's ASGI.")
    log_level: LogLevel = setting("warning", "Least severe messages that the log shows.")
