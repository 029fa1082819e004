"""A handler that takes no writes: what is read over HTTP, the program itself writes."""

from collections.abc import Callable
from typing import Final

from ..errors import MethodNotAllowed
from ..protocol.render import Response
from ..storage.ticket import Ticket
from .handler import Handler, Reply
from .request import Request

_READS: Final = b"GET, HEAD, OPTIONS"
_NOTHING: Final = b"OPTIONS"


class ReadOnlyHandler(Handler):
    """Answers reads as `Handler` does, and refuses everything else before any of a large body is read."""

    def handle(self, request: Request, on_ready: Callable[[], None]) -> Reply | Ticket[Reply]:
        """Answers a request, as `Handler.handle` has it."""
        try:
            self._refuse_writes(request)
        except Exception as error:
            return self.refuse(request, error)
        reply = super().handle(request, on_ready)
        if request.method == "OPTIONS" and isinstance(reply, Response):
            _name_reads(reply)
        return reply

    def check_head(self, request: Request) -> None:
        """Refuses a request that its head alone decides, as `Handler.check_head` has it."""
        self._refuse_writes(request)
        super().check_head(request)

    def _refuse_writes(self, request: Request) -> None:
        """Refuses what is no read of a stream.

        Raises:
            MethodNotAllowed: READ_ONLY.
            BadRequest, NotFound, Unavailable: as `Handler.handle` would answer.
        """
        if request.method == "OPTIONS":
            return
        _, is_control = self._locate(request)
        if is_control or request.method not in ("GET", "HEAD"):
            raise MethodNotAllowed(
                "the streams are read-only here",
                "READ_ONLY",
                [(b"allow", _NOTHING if is_control else _READS)],
            )


def _name_reads(preflight: Response) -> None:
    """Has a preflight name the methods that are left."""
    headers = preflight.headers
    for index, (name, _) in enumerate(headers):
        if name in (b"allow", b"access-control-allow-methods"):
            headers[index] = (name, _READS)
