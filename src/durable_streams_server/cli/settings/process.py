"""Settings of the process: its stop and its HTTP lane."""

import dataclasses
from typing import Final

from ...http.serving.server import HttpLane
from ..values import UP_TO_AN_HOUR
from .definition import Topic, setting

#: Seconds of a drain. A container is killed 10 seconds after the signal, and a last checkpoint needs some of them.
DEFAULT_DRAIN: Final = 5.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Process(Topic):
    """The process: its stop and its HTTP lane."""

    drain: float | None = setting(
        None,
        "How long the server keeps answering after SIGTERM, while it ends its live reads one after the other; 0 ends them at once.",
        kind=UP_TO_AN_HOUR,
        metavar="SECONDS",
        unset=f"{DEFAULT_DRAIN:g}, or 0 with --memory",
        example=DEFAULT_DRAIN,
    )
    http: HttpLane = setting("native", "Answer straight on the socket, or through uvicorn's ASGI.")
