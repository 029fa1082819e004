"""Settings of the process: its HTTP lane."""

import dataclasses

from ...http.serving.server import HttpLane
from .definition import Topic, setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class Process(Topic):
    """The process: its HTTP lane."""

    http: HttpLane = setting("native", "Answer straight on the socket, or through uvicorn's ASGI.")
