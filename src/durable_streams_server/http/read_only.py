"""`ReadOnlyHandler`: refuses writes over HTTP, for programs that write their streams themselves."""

from collections.abc import Callable
from typing import Final

from ..errors import MethodNotAllowed
from ..protocol.names import OPERATIONS_PATHS
from ..protocol.render import Response
from ..storage.ticket import Ticket
from .handler import Handler
from .replies import Reply
from .request import Request

_STREAM_METHODS: Final = b"GET, HEAD, OPTIONS"
_CONTROL_METHODS: Final = b"OPTIONS"


class ReadOnlyHandler(Handler):
    """Answers reads like `Handler`, and refuses every other request before a large body is received."""

    def handle(
        self, request: Request, on_ready: Callable[[], None], peer: str | None = None
    ) -> Reply | Ticket[Reply]:
        """Returns the reply to a request, or a ticket for the reply, like `Handler.handle`."""
        try:
            self._refuse_writes(request)
        except Exception as error:
            return self.refuse(request, error)
        reply = super().handle(request, on_ready, peer)
        if request.method == "OPTIONS" and isinstance(reply, Response):
            _list_only_reads(reply)
        return reply

    def check_head(self, request: Request, peer: str | None = None) -> None:
        """Refuses a write, and any request whose head alone is enough to refuse it.

        Raises:
            StreamError: The refusal that the whole request would get.
        """
        self._refuse_writes(request)
        super().check_head(request, peer)

    def _refuse_writes(self, request: Request) -> None:
        """Refuses every request but reads of streams, health checks and OPTIONS.

        Raises:
            MethodNotAllowed: READ_ONLY.
            BadRequest, NotFound, Unavailable: The refusal that `Handler.handle` would return.
        """
        if request.method == "OPTIONS":
            return
        path, is_own = self._locate(request)
        if path in OPERATIONS_PATHS:
            return
        if is_own or request.method not in ("GET", "HEAD"):
            raise MethodNotAllowed(
                "the streams are read-only here",
                "READ_ONLY",
                [(b"allow", _CONTROL_METHODS if is_own else _STREAM_METHODS)],
            )


def _list_only_reads(preflight: Response) -> None:
    """Removes the methods that write from the response to OPTIONS."""
    headers = preflight.headers
    for index, (name, _) in enumerate(headers):
        if name in (b"allow", b"access-control-allow-methods"):
            headers[index] = (name, _STREAM_METHODS)
