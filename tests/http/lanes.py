"""Makes one request at a time over either lane, for tests of behaviour that both lanes share."""

from collections.abc import Mapping

from durable_streams_server.http.asgi.application import DurableStreamsApp
from durable_streams_server.http.native.lane import Lane
from tests.http import asgi_driver
from tests.http.asgi_driver import Answer
from tests.http.socket_driver import Client, parse, request, until


class Caller:
    """Makes requests to an application, through ASGI or over the native lane.

    Args:
        app: the application.
        native: whether to use the native lane.
        peer: the address of the client.
    """

    def __init__(self, app: DurableStreamsApp, native: bool, peer: str = "127.0.0.1") -> None:
        self.app = app
        self._peer = (peer, 1)
        self._lane = Lane(app) if native else None

    async def __call__(
        self, method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Answer:
        """Returns the whole response to one request."""
        headers = headers or {}
        if self._lane is None:
            given = {"client": self._peer}
            return await asgi_driver.request(self.app, method, target, headers, body, **given)
        client = Client(self._lane, self._peer)
        lines = [f"{name}: {value}" for name, value in headers.items()]
        client.send(request(method, target, *lines, body=body or None))
        received = client.wire.received
        await until(lambda: len(parse(bytes(received), [method])[0]) == 1)
        (answer,) = client.answers(method)
        client.reset()
        return answer
