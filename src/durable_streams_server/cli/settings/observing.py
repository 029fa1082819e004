"""Settings of the log and of traces."""

import dataclasses
from typing import Literal, TypeAlias

from ..log_lines import LogFormat
from ..values import UP_TO_AN_HOUR
from .definition import Topic, setting

LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Observing(Topic):
    """The log and traces."""

    log_level: LogLevel = setting(
        "warning", "Least severe messages that the log shows.", reloadable=True
    )
    log_format: LogFormat = setting(
        "console", "Format of the log: text for people, or one JSON object on each line."
    )
    access_log: bool = setting(
        False, "Log each response with its request, whatever the log level is."
    )
    slow_log: float = setting(
        1.0,
        "Log requests and commits that take longer than this, and checkpoints that take a hundred times as long; 0 logs none. "
        "Live reads do not count.",
        kind=UP_TO_AN_HOUR,
        metavar="SECONDS",
    )
    traces: bool = setting(
        False,
        "Send OpenTelemetry traces. Needs the extra 'otel'; the variables OTEL_… set the collector and the sampler.",
    )
