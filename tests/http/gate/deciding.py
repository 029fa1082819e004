"""Access control for tests of the gate, which decides with a function."""

from collections.abc import Callable

from durable_streams_server.http.gate.permit import Permit
from durable_streams_server.http.request import Request
from durable_streams_server.storage.ticket import Ticket


class Tokens:
    """The generation of tokens, which a test may change."""

    def __init__(self) -> None:
        self.generation = 0


class Deciding:
    """Decides on each request with a function, and notes the requests.

    Args:
        decide: returns the permit of a request.
    """

    def __init__(self, decide: Callable[[Request], Permit | Ticket[Permit]]) -> None:
        self.authenticator = Tokens()
        self.asked: list[Request] = []
        self._decide = decide

    def authorize(self, request: Request) -> Permit | Ticket[Permit]:
        self.asked.append(request)
        return self._decide(request)
